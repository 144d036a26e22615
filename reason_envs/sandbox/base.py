"""The sandbox interface: programs, limits, outcomes, and the threads and processes that work for them."""

import asyncio
import atexit
import json
import os
import socket
import subprocess
import threading
import weakref
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Literal

from reason_envs.errors import EngineError
from reason_envs.validation import Checked, above, at_least, limited

Status = Literal["ok", "error", "timeout", "memory", "output", "killed", "refused"]


@dataclass(frozen=True)
class Limits:
    """Limits of a program. A program that exceeds one is ended."""

    seconds: float = 5.0
    """Maximum wall-clock time in seconds, including the evaluation of the expressions."""
    memory_mb: int = 512
    """Maximum address space in MiB, including about 60 MiB of the interpreter."""
    output_bytes: int = 2**16
    """Maximum size in bytes, for each of standard output, standard error and the serialised values."""
    processes: int = 8
    """Maximum number of threads at the same time. The sandboxes ``container`` and ``http`` count processes as well; in
    the others a program cannot start any. ``native`` enforces it if root runs it or user namespaces are allowed."""

    def __post_init__(self) -> None:
        above(self, **dict.fromkeys(vars(self), 0))


@dataclass(frozen=True)
class Program:
    """A program, its input, and the expressions to evaluate."""

    source: str
    """Python source text, run as ``__main__``."""
    stdin: str = ""
    """Text on standard input."""
    expressions: tuple[str, ...] = ()
    """Expressions such as ``"solve([1, 2])"``, evaluated in the program's namespace after it has run. If one raises an
    exception, the others are still evaluated."""
    limits: Limits = Limits()
    """Limits of the program."""


@dataclass(frozen=True)
class Outcome:
    """The result of a program.

    A program can choose all of its contents. Compare them only with expected values that the program never received.
    """

    status: Status
    """End of the program. ``ok``: normal. ``error``: it raised an exception, or its exit status was not 0.
    ``timeout``, ``memory``, ``output``: it exceeded that limit. ``killed``: it ended before its results were complete.
    ``refused``: it was not run."""
    stdout: str = ""
    """Standard output, cut at the limit."""
    stderr: str = ""
    """The end of standard error."""
    values: tuple[Any, ...] = ()
    """Value of each expression: plain data, `Raised` or `Opaque`. There are fewer values if the program ended early."""
    seconds: float = 0.0
    """Wall-clock time in seconds."""
    reason: str = ""
    """Explanation of a status other than ``ok``."""

    @property
    def value(self) -> Any:
        """The value of the first expression. An error if there is none."""
        if not self.values:
            raise EngineError(
                f"The program returned no value (status {self.status!r}: {self.reason or 'no expression was given'})."
            )
        return self.values[0]


@dataclass
class SandboxConfig(Checked):
    """Options of every sandbox."""

    workers: int | None = limited(None, at_least=1)
    """Maximum number of programs at the same time; ``None``: the number of processors."""
    output_bytes: int = limited(Limits.output_bytes, at_least=1)
    """Maximum size in bytes, for each of a program's standard output, standard error and returned values."""


class ServerProcess:
    """A process that answers requests. Requests and replies are lines of JSON on a socket, its standard input.

    Only one thread may use it at a time.
    """

    def __init__(self, command: list[str], **options: Any) -> None:
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self.process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, **options)
        except OSError:
            self.forget()
            raise

    def ask(self, request: Any, limit: float) -> Any:
        """Return the reply to a request. Raises as `receive` after ``limit`` seconds."""
        deadline = monotonic() + limit
        self._socket.settimeout(limit)
        self.send(request)
        return self.receive(deadline)

    def send(self, message: Any) -> None:
        """Send a message."""
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, deadline: float) -> Any:
        """Return the next message of the process.

        Raises:
            TimeoutError: the deadline has passed.
            ConnectionError: the process ended.
        """
        data = bytearray()
        while not data.endswith(b"\n"):
            remaining = deadline - monotonic()
            if remaining <= 0:
                raise TimeoutError
            self._socket.settimeout(remaining)
            piece = self._socket.recv(1 << 20)
            if not piece:
                raise ConnectionError("the process closed its socket")
            data += piece
        return json.loads(data)

    def kill(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        self.forget()

    def forget(self) -> None:
        """Release a process that belongs to the parent of this forked process."""
        self._socket.close()


class WorkerThreads:
    """A pool of at most ``workers`` threads, and the processes that they use.

    It is closed at exit, and built again in a forked process.
    """

    _servers: list[ServerProcess] = []  # noqa: RUF012  (replaced by each pool)

    def __init__(self, workers: int) -> None:
        self.workers = workers
        at_least(self, workers=1)
        self._start_over()
        _pools.add(self)

    def close(self) -> None:
        """Cancel waiting jobs, wait for the running ones, and end the processes. A later job starts new ones."""
        self._executor.shutdown(cancel_futures=True)
        self._end_processes()
        self._start_over()

    def _end_processes(self) -> None:
        for server in self._servers:
            server.kill()

    def _start_over(self) -> None:
        """Create all resources that belong to one process, at the start and after a fork."""
        for server in self._servers:
            server.forget()  # after a fork it belongs to the parent
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(self.workers, thread_name_prefix=type(self).__name__)
        self._servers = []
        self._idle: list[ServerProcess] = []

    def _take_idle(self) -> ServerProcess | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _ask(self, server: ServerProcess, request: Any, limit: float) -> Any:
        """Return the reply of a process, which is then idle. After an error the process is discarded."""
        try:
            reply = server.ask(request, limit)
        except BaseException:
            self._discard(server)
            raise
        with self._lock:
            self._idle.append(server)
        return reply

    def _discard(self, server: ServerProcess) -> None:
        server.kill()
        with self._lock:
            self._servers.remove(server)


_pools: weakref.WeakSet[WorkerThreads] = weakref.WeakSet()


def _call_all(method: str) -> None:
    for pool in list(_pools):
        getattr(pool, method)()


os.register_at_fork(after_in_child=partial(_call_all, "_start_over"))
atexit.register(_call_all, "close")


class Sandbox(WorkerThreads, ABC):
    """Runs untrusted programs, at most ``workers`` at the same time. It can be awaited, or called from any thread."""

    def __init__(self, workers: int | None = None, output_bytes: int = Limits.output_bytes) -> None:
        self.output_bytes = output_bytes
        super().__init__(os.cpu_count() or 1 if workers is None else workers)

    @property
    def summary(self) -> str:
        """Name of the sandbox and its isolation, for the first line of a run."""
        return type(self).__name__.removesuffix("Sandbox").lower()

    def limits_for(self, seconds: float = Limits.seconds) -> Limits:
        """Return limits of a program with the maximum output of this sandbox."""
        return Limits(seconds, output_bytes=self.output_bytes)

    async def run(self, program: Program) -> Outcome:
        """Run a program as soon as a worker is free."""
        return await asyncio.wrap_future(self._executor.submit(self.execute, program))

    @abstractmethod
    def execute(self, program: Program) -> Outcome:
        """Run a program in the calling thread."""
