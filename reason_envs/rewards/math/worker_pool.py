"""Grading processes with an enforced time limit, for any thread and any event loop."""

import os
import sys
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
        super().__init__(min(4, os.cpu_count() or 1) if workers is None else workers)

    def submit(self, gold: str, answer: str) -> Future[str]:
        """Queue two normalised answers. The result is a reason (see `MathGrade`)."""
        return self._executor.submit(self._judge, gold, answer)

    def _judge(self, gold: str, answer: str) -> str:
        for idle in (self._take_idle(), None):  # a second attempt: the worker may have died while it was idle
            worker = idle or self._start_worker()
            try:
                return self._ask(worker, {"gold": gold, "answer": answer, "limit": self.limit}, self.limit)
            except TimeoutError:
                return "timeout"
            except ConnectionError:
                continue
        return "worker_died"

    def _start_worker(self) -> ServerProcess:
        # -P: files beside the script must not shadow modules that math-verify imports.
        command = [sys.executable, "-P", str(_WORKER)]
        worker = ServerProcess(command, env={**os.environ, "PYTHONHASHSEED": "0"})  # fixed order of sets in sympy
        self._servers.append(worker)
        try:
            worker.receive(monotonic() + START_LIMIT)
        except (TimeoutError, ConnectionError) as error:
            self._discard(worker)
            raise ReasonEnvsError(
                f"The grading worker did not start ({command}, exit status {worker.process.returncode}); its message "
                "is above. Check that `python -c 'import math_verify'` works in this environment."
            ) from error
        return worker


DEFAULT_POOL = GradingPool()
"""Pool that all graders of this process share."""
