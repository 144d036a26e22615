"""What every way to run a program shares: programs, limits, outcomes and the pool of workers."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from reason_envs.errors import ReasonEnvsError

Status = Literal["ok", "error", "timeout", "memory", "output", "killed", "refused"]


@dataclass(frozen=True)
class Limits:
    """What a program may use; going over ends it."""

    seconds: float = 5.0
    """Wall-clock time, the evaluation of the expressions included."""
    memory_mb: int = 512
    """Address space in units of 2**20 bytes, the interpreter's own (about 60) included."""
    output_bytes: int = 2**16
    """Size of each of: standard output, standard error, the serialised values."""
    processes: int = 8
    """Threads at once; ``container`` and ``http`` count processes too, the others let a program start none."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ReasonEnvsError(f"{name}={value}: a limit must be above 0.")


@dataclass(frozen=True)
class Program:
    """A program and what is asked of it."""

    source: str
    """Python text, run as ``__main__``."""
    stdin: str = ""
    """What it reads from standard input."""
    expressions: tuple[str, ...] = ()
    """Evaluated in its namespace after it ran, such as ``"solve([1, 2])"``; an exception in one spares the others."""
    limits: Limits = Limits()
    """What it may use."""


@dataclass(frozen=True)
class Outcome:
    """What became of a program. Whatever is in it was chosen by the program: compare it with what it never saw."""

    status: Status
    """``ok``: it ran to its end; ``error``: it raised, or left with a status that is not 0; ``timeout``, ``memory``,
    ``output``: it went over that limit; ``killed``: it ended before its results; ``refused``: it was not run."""
    stdout: str = ""
    """What it printed, cut at the limit."""
    stderr: str = ""
    """The end of what it wrote to standard error."""
    values: tuple[Any, ...] = ()
    """The value of each expression, as plain data, ``Raised`` or ``Opaque``; fewer where it ended early."""
    seconds: float = 0.0
    """Wall-clock time."""
    reason: str = ""
    """Why it is not ``ok``."""

    @property
    def value(self) -> Any:
        """The value of the first expression; an error where there is none."""
        if not self.values:
            raise ReasonEnvsError(
                f"The program has no value (status {self.status!r}: {self.reason or 'no expression'})."
            )
        return self.values[0]


class Sandbox(ABC):
    """Runs programs that nobody has read, several at once; awaited, or called from any thread."""

    def __init__(self, workers: int | None = None) -> None:
        """Set up the pool without starting anything.

        Args:
            workers: most programs at once; ``None`` takes the number of processors.
        """
        if workers is not None and workers < 1:
            raise ReasonEnvsError(f"workers={workers}: a sandbox needs at least one worker.")
        self.workers = workers or os.cpu_count() or 1
        self._start_over()
        _sandboxes.add(self)

    async def run(self, program: Program) -> Outcome:
        """Run a program when a worker is free; awaiting many at once keeps every worker busy."""
        return await asyncio.wrap_future(self._executor.submit(self.execute, program))

    @abstractmethod
    def execute(self, program: Program) -> Outcome:
        """Run a program in the calling thread."""

    def close(self) -> None:
        """Drop what is queued, wait for what is running and end the workers."""
        self._executor.shutdown(cancel_futures=True)

    def _start_over(self) -> None:
        """Build everything that belongs to one process: called at the start and after a fork."""
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(self.workers, thread_name_prefix="sandbox")


_sandboxes: weakref.WeakSet[Sandbox] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for sandbox in list(_sandboxes):
        sandbox._start_over()


def _close_all() -> None:
    for sandbox in list(_sandboxes):
        sandbox.close()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_close_all)
