"""Runs Python programs natively on Linux: a fork server for each worker, and a sealed process for each program."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
from dataclasses import asdict, dataclass
from json import dumps, loads
from pathlib import Path
from time import monotonic
from typing import Any

from reason_envs.errors import ReasonEnvsError
from reason_envs.sandbox.base import Outcome, Program, Sandbox
from reason_envs.sandbox.layers import FIRST_UID, INSIDE_BUBBLEWRAP, UIDS, Layers, bubblewrap_command, detect
from reason_envs.sandbox.library import copied_library, interpreter, is_open, library, readable_paths
from reason_envs.sandbox.values import finished

START_LIMIT = 60.0
"""Seconds that a server may take to start, on a machine however busy."""
GRACE = 10.0
"""Seconds beyond a program's own limit after which its server counts as lost."""
PRELOADED = ("math", "cmath", "re", "json", "random", "itertools", "collections", "heapq", "bisect", "string", "typing")
"""Modules that are loaded before the fork, as most programs import them; more would make every fork slower."""


@dataclass
class NativeConfig:
    """Options of the native sandbox."""

    workers: int | None = None
    """Most programs at once; ``None``: the number of processors."""
    allow_weaker: bool = False
    """Run programs even where a needed layer is missing."""


class NativeSandbox(Sandbox):
    """General Python on Linux. A program has the standard library, its input and nothing else.

    It has no files of its own, no network, no child processes, no environment, and no packages; the next program
    starts from a fresh fork. Nothing is started or checked before the first program.
    """

    def __init__(self, config: NativeConfig | None = None) -> None:
        self.config = config or NativeConfig()
        super().__init__(self.config.workers)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that seal a program on this machine."""
        return detect().active

    def execute(self, program: Program) -> Outcome:
        """Run a program on an idle server, or on a new one."""
        request = {**asdict(program), "expressions": list(program.expressions)}
        with self._lock:
            server = self._idle.pop() if self._idle else None
        server = server or self._start_server()
        try:
            reply = server.ask(request, program.limits.seconds + GRACE)
        except (OSError, ConnectionError):  # TimeoutError is an OSError
            self._discard(server)
            return Outcome("killed", seconds=program.limits.seconds, reason="the program's server was lost")
        except BaseException:
            self._discard(server)
            raise
        with self._lock:
            self._idle.append(server)
        return _outcome(reply, program)

    def close(self) -> None:
        """End the servers."""
        super().close()
        for server in self._servers:
            server.kill()
        self._start_over()

    def _start_over(self) -> None:
        super()._start_over()
        for server in getattr(self, "_servers", ()):
            server.forget()  # after a fork it belongs to the parent
        self._idle: list[_Server] = []
        self._servers: list[_Server] = []

    def _start_server(self) -> _Server:
        layers = checked_layers(self.config.allow_weaker)
        with self._lock:
            server = _Server(layers, uid=FIRST_UID + len(self._servers) % UIDS)
            self._servers.append(server)
        try:
            self._check(server)
        except BaseException:
            self._discard(server)
            raise
        return server

    def _check(self, server: _Server) -> None:
        """Run an empty program: a layer that cannot be put on must not pass for a program's fault."""
        try:
            server.receive(monotonic() + START_LIMIT)
            program = Program("")
            outcome = _outcome(server.ask({**asdict(program), "expressions": []}, START_LIMIT), program)
        except (OSError, ConnectionError) as error:
            raise ReasonEnvsError(
                f"The server of the native sandbox did not start ({error}); its own message is above. "
                f"Layers: {', '.join(self.layers)}. Use sandbox 'monty' or 'container' on this machine."
            ) from error
        if outcome.status != "ok":
            raise ReasonEnvsError(f"A layer of the native sandbox cannot be put on: {outcome.reason}.")

    def _discard(self, server: _Server) -> None:
        server.kill()
        with self._lock:
            self._servers.remove(server)


def checked_layers(allow_weaker: bool) -> Layers:
    """Return the layers of this machine if they suffice, or are allowed not to."""
    if sys.platform != "linux":
        raise ReasonEnvsError(
            f"The native sandbox needs Linux, this is {sys.platform!r}: use sandbox 'monty' for small programs, "
            "or 'container' or 'http' for any."
        )
    layers = detect()
    if layers.missing and not allow_weaker:
        raise ReasonEnvsError(
            f"The native sandbox lacks {' and '.join(layers.missing)}; it has {', '.join(layers.active)}. "
            "Set sandbox.allow_weaker=true to run programs here all the same, or use sandbox 'monty' or 'container'."
        )
    return layers


def _outcome(reply: dict[str, Any], program: Program) -> Outcome:
    stdout, stderr, seconds = reply["stdout"], reply["stderr"][-2000:], reply["seconds"]
    code = reply["exit"]
    whole_lines = reply["results"][: reply["results"].rfind("\n") + 1]
    ending = finished(whole_lines, stdout, stderr, seconds, f"it ended with {_exit(code)} before its results")
    if reply["ended"] == "output":
        reason = f"more than {program.limits.output_bytes} bytes of output"
        return Outcome("output", stdout, stderr, ending.values, seconds, reason)
    if reply["ended"] == "timeout" or code == -signal.SIGXCPU:
        reason = f"more than {program.limits.seconds:g} seconds"
        return Outcome("timeout", stdout, stderr, ending.values, seconds, reason)
    return ending


def _exit(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


class _Server:
    """One fork server and the socket it listens on; only one thread talks to it at a time."""

    def __init__(self, layers: Layers, uid: int) -> None:
        self._socket, theirs = socket.socketpair()
        command = [interpreter(), "-s", "-S", "-P", "-B", "-X", "utf8", "-c", _program_text()]
        if layers.bubblewrap:
            command = [*bubblewrap_command(layers.bubblewrap), *command]
        settings = _settings(layers, uid)
        with theirs:
            # No environment: whatever is secret there stays here. The hash seed keeps sets in one order.
            self.process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={"PYTHONHASHSEED": "0"},
                start_new_session=True,
            )
        _send(self._socket, settings)

    def ask(self, request: dict[str, Any], limit: float) -> dict[str, Any]:
        """Return the server's reply; ``OSError`` where it is late or gone."""
        self._socket.settimeout(limit)
        _send(self._socket, request)
        return self.receive(monotonic() + limit)

    def receive(self, deadline: float) -> Any:
        """Return the next frame."""
        size = struct.unpack("!I", self._read(4, deadline))[0]
        return loads(self._read(size, deadline))

    def _read(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._socket.settimeout(max(0.001, deadline - monotonic()))
            piece = self._socket.recv(min(size - len(data), 1 << 20))
            if not piece:
                raise ConnectionError("it closed its socket")
            data += piece
        return bytes(data)

    def kill(self) -> None:
        """End the server, the program it runs and what belongs to them."""
        self._socket.close()
        self.process.kill()
        self.process.wait()

    def forget(self) -> None:
        """Let go of a server that belongs to the process this one was forked from."""
        self._socket.close()


def _settings(layers: Layers, uid: int) -> dict[str, Any]:
    folder, readable = library(), readable_paths()
    if layers.bubblewrap:
        folder = INSIDE_BUBBLEWRAP
    elif os.geteuid() == 0 and not is_open(folder):
        folder = copied_library()
    readable.append(folder)
    return {
        "uid": uid if os.geteuid() == 0 else None,
        "seccomp": layers.seccomp,
        "landlock": layers.landlock,
        "readable": readable,
        "library": sysconfig.get_path("stdlib"),
        "library_here": folder,
        "preload": PRELOADED,
    }


def _program_text() -> str:
    parts = [Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("runner.py", "server.py")]
    return "\n".join([*parts, "serve(run_program)"])


def _send(connection: socket.socket, message: Any) -> None:
    data = dumps(message).encode()
    connection.sendall(struct.pack("!I", len(data)) + data)
