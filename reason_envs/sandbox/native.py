"""The sandbox that runs programs natively on Linux: a fork server per worker, an isolated process per program."""

import os
import signal
import socket
import sysconfig
from contextlib import suppress
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

from reason_envs.errors import EngineError
from reason_envs.resources import read_text
from reason_envs.sandbox.base import Outcome, Program, Sandbox, SandboxConfig, ServerProcess
from reason_envs.sandbox.layers import FIRST_UID, INSIDE_BUBBLEWRAP, REQUIRED, UIDS, Layers, bubblewrap_command, detect
from reason_envs.sandbox.library import copied_library, interpreter, is_open, library, readable_paths
from reason_envs.sandbox.values import finished

START_LIMIT = 60.0
"""Maximum time in seconds for the start of a server, even on a busy machine."""
GRACE = 10.0
"""Time in seconds after a program's limit until its server counts as lost."""
PRELOADED = ("math", "cmath", "re", "json", "random", "itertools", "collections", "heapq", "bisect", "string", "typing")
"""Modules that are loaded before the fork because most programs import them. Each one slows down every fork."""


@dataclass
class NativeConfig(SandboxConfig):
    """Options of ``sandbox=native``."""

    require: tuple[str, ...] = REQUIRED
    """Isolation layers without which no program runs: ``seccomp``, ``landlock``, ``bubblewrap``, ``uid``, or ``files``
    for one of Landlock and bubblewrap. Those that differ from the default are checked at once. Empty: none."""


class NativeSandbox(Sandbox):
    """Runs general Python programs on Linux. A program has only the standard library and its input.

    It cannot write files, and has no network, child processes, environment variables or installed packages. Each
    program starts from a new fork. Nothing is started or checked before the first program.
    """

    def __init__(self, config: NativeConfig | None = None) -> None:
        self.config = config or NativeConfig()
        super().__init__(self.config.workers, self.config.output_bytes)
        if tuple(self.config.require) != REQUIRED:
            detect().check(self.config.require)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the isolation layers that are active on this machine."""
        return detect().active

    @property
    def summary(self) -> str:
        """The layers of this machine, and those of the default that are missing."""
        return f"native ({', '.join([*self.layers, *(f'WITHOUT {layer}' for layer in detect().missing)])})"

    def execute(self, program: Program) -> Outcome:
        """Run a program on an idle server, or on a new one. If the server is lost, a new one runs the program again.

        Raises:
            EngineError: a required layer is missing or cannot be activated, or the server does not start.
        """
        for find in (self._take_idle, self._start_server):
            if server := find():
                with suppress(OSError):  # late or ended
                    return _outcome(self._ask(server, asdict(program), program.limits.seconds + GRACE), program)
        return Outcome("killed", seconds=program.limits.seconds, reason="the program's server was lost")

    def _start_server(self) -> ServerProcess:
        layers = detect()
        layers.check(self.config.require)
        try:
            with self._lock:
                server = _Server(layers, shared_uid=FIRST_UID + len(self._servers) % UIDS)
                self._servers.append(server)
            try:
                self._check(server)
            except BaseException:
                self._discard(server)
                raise
        except OSError as error:
            raise EngineError(
                f"The server of the native sandbox did not start ({error}). See its message above. Active layers: "
                f"{', '.join(self.layers)}. Use the sandbox monty or container on this machine."
            ) from error
        return server

    def _check(self, server: ServerProcess) -> None:
        """Run an empty program, so that a layer that cannot be activated is not reported as the fault of a program."""
        server.receive(monotonic() + START_LIMIT)
        outcome = _outcome(server.ask(asdict(Program("")), START_LIMIT), Program(""))
        if outcome.status != "ok":
            raise EngineError(f"A layer of the native sandbox cannot be activated: {outcome.reason}.")


def _outcome(reply: dict[str, Any], program: Program) -> Outcome:
    stdout, stderr, seconds = reply["stdout"], reply["stderr"][-2000:], reply["seconds"]
    code = reply["exit"]
    complete_lines = reply["results"][: reply["results"].rfind("\n") + 1]
    names = {number.value: number.name for number in signal.Signals}
    end = f"signal {names.get(-code, -code)}" if code < 0 else f"exit status {code}"
    ending = finished(complete_lines, stdout, stderr, seconds, f"it ended with {end} before its results")
    if reply["ended"] == "output":
        reason = f"more than {program.limits.output_bytes} bytes of output"
        return Outcome("output", stdout, stderr, ending.values, seconds, reason)
    if reply["ended"] == "timeout" or code == -signal.SIGXCPU:
        reason = f"more than {program.limits.seconds:g} seconds"
        return Outcome("timeout", stdout, stderr, ending.values, seconds, reason)
    return ending


class _Server(ServerProcess):
    """A fork server, which reserves a user id."""

    def __init__(self, layers: Layers, shared_uid: int) -> None:
        self._claim = _free_uid()
        uid = shared_uid if self._claim is None else self._claim[0]
        text = "\n".join([*(read_text(__file__, name) for name in ("runner.py", "server.py")), "serve(run_program)"])
        command = [interpreter(), "-s", "-S", "-P", "-B", "-X", "utf8", "-c", text]
        if layers.bubblewrap:
            command = [*bubblewrap_command(layers.bubblewrap), *command]
        # No environment variables, because they may contain secrets. The hash seed fixes the order of sets.
        super().__init__(command, env={"PYTHONHASHSEED": "0"}, start_new_session=True)
        self.send(_settings(layers, uid))

    def forget(self) -> None:
        """Close the socket, and give the user id back."""
        super().forget()
        if self._claim is not None:
            self._claim[1].close()


def _free_uid() -> tuple[int, socket.socket] | None:
    """Return a user id that no other process of this machine uses, and the socket whose name reserves it.

    The kernel frees the name when the process ends. Programs of one user count towards each other's limit of threads.
    ``None``: every id is taken.
    """
    for uid in range(FIRST_UID, FIRST_UID + UIDS):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0reason_envs_uid_{uid}")
        except OSError:
            claim.close()
        else:
            return uid, claim
    return None


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
