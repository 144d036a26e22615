"""Grading processes with an enforced time limit, for any thread and any event loop."""

import os
import sys
import weakref
from concurrent.futures import Future
from pathlib import Path
from time import monotonic

from reason_envs.errors import ReasonEnvsError
from reason_envs.sandbox.base import ServerProcess, WorkerThreads
from reason_envs.validation import above

DEFAULT_LIMIT = 5.0
"""Maximum wall-clock time of one pair of answers, in seconds."""
START_LIMIT = 120.0
"""Maximum time in which a worker must start on a busy machine, in seconds."""
_WORKER = Path(__file__).with_name("worker.py")


class _Worker(ServerProcess):
    """One grading process."""

    def __init__(self, started: weakref.WeakSet["_Worker"]) -> None:
        # -P: files beside the script must not shadow modules that math-verify imports.
        command = [sys.executable, "-P", str(_WORKER)]
        super().__init__(command, env={**os.environ, "PYTHONHASHSEED": "0"})  # fixed order of sets in sympy
        started.add(self)
        try:
            self.receive(monotonic() + START_LIMIT)
        except (TimeoutError, ConnectionError) as error:
            self.kill()
            raise ReasonEnvsError(
                f"The grading worker did not start ({command}, exit status {self.process.returncode}); its message is "
                "above. Check that `python -c 'import math_verify'` works in this environment."
            ) from error


class GradingPool(WorkerThreads):
    """Worker processes that are started on demand and replaced when they hang or die."""

    def __init__(self, workers: int | None = None, limit: float = DEFAULT_LIMIT) -> None:
        """Create a pool. Workers start with the first request.

        Args:
            workers: maximum number of processes. ``None``: the number of processors, at most four.
            limit: maximum wall-clock time per pair in seconds; then the worker is killed.
        """
        self.limit = limit
        above(self, limit=0)
        self._started: weakref.WeakSet[_Worker] = weakref.WeakSet()
        super().__init__(min(4, os.cpu_count() or 1) if workers is None else workers)

    def submit(self, gold: str, answer: str) -> Future[str]:
        """Queue two normalised answers. The result is a reason (see `MathGrade`)."""
        return self._executor.submit(self._judge, gold, answer)

    def close(self) -> None:
        """Cancel queued pairs, wait for the running ones and end the workers."""
        super().close()
        while self._idle:
            self._idle.pop().kill()

    def _judge(self, gold: str, answer: str) -> str:
        for attempt in range(2):  # a second attempt: the worker may have died while it was idle
            with self._lock:
                idle = self._idle.pop() if self._idle and attempt == 0 else None
            worker = idle or _Worker(self._started)
            try:
                reason = worker.ask({"gold": gold, "answer": answer, "limit": self.limit}, self.limit)
            except TimeoutError:
                worker.kill()
                return "timeout"
            except ConnectionError:
                worker.kill()
                continue
            with self._lock:
                self._idle.append(worker)
            return reason
        return "worker_died"

    def _start_over(self) -> None:
        super()._start_over()
        for worker in list(self._started):  # after a fork they belong to the parent process
            worker.forget()
        self._idle: list[_Worker] = []


_default = GradingPool()


def default_pool() -> GradingPool:
    """Return the pool that all graders of this process share."""
    return _default
