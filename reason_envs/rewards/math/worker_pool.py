"""Grading processes with a time limit that really ends them, usable from any thread and any event loop."""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import monotonic

from reason_envs.errors import ReasonEnvsError

DEFAULT_LIMIT = 5.0
"""Seconds of wall-clock time that one pair of answers may take."""
START_LIMIT = 120.0
"""Seconds that a worker may take to import math-verify, on a machine however busy."""
_WORKER = Path(__file__).with_name("worker.py")


class _Worker:
    """One process and the socket it listens on; only one thread talks to it at a time."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        _workers.add(self)
        with theirs:
            # -P: the script's folder must not shadow modules that math-verify imports.
            command = [sys.executable, "-P", str(_WORKER)]
            environment = {**os.environ, "PYTHONHASHSEED": "0"}  # sets in sympy keep one order
            self.process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno(), env=environment)
        try:
            self._receive(monotonic() + START_LIMIT)
        except (TimeoutError, ConnectionError) as error:
            self.kill()
            raise ReasonEnvsError(
                f"The grading worker did not start ({command}, exit status {self.process.returncode}); its own message "
                "is above. Check that `python -c 'import math_verify'` works in this environment."
            ) from error

    def ask(self, gold: str, answer: str, limit: float) -> str:
        """Return the worker's verdict; raises ``TimeoutError`` or ``ConnectionError``."""
        deadline = monotonic() + limit
        request = json.dumps({"gold": gold, "answer": answer, "limit": limit}) + "\n"
        self._socket.settimeout(limit)
        self._socket.sendall(request.encode())
        return self._receive(deadline)

    def _receive(self, deadline: float) -> str:
        reply = b""
        while not reply.endswith(b"\n"):
            remaining = deadline - monotonic()
            if remaining <= 0:
                raise TimeoutError
            self._socket.settimeout(remaining)
            piece = self._socket.recv(4096)
            if not piece:
                raise ConnectionError("the worker closed its socket")
            reply += piece
        return json.loads(reply)

    def kill(self) -> None:
        """End the process at once and collect it."""
        self._socket.close()
        self.process.kill()
        self.process.wait()

    def forget(self) -> None:
        """Let go of a worker that belongs to the process this one was forked from."""
        self._socket.close()


class GradingPool:
    """A few worker processes, started when first needed and replaced when they hang or die."""

    def __init__(self, workers: int | None = None, limit: float = DEFAULT_LIMIT) -> None:
        """Set up a pool without starting anything.

        Args:
            workers: most processes at once; ``None`` takes the number of processors, four at most.
            limit: seconds of wall-clock time per pair; then the worker is killed.
        """
        if workers is not None and workers < 1:
            raise ReasonEnvsError(f"workers={workers}: a grading pool needs at least one worker.")
        if limit <= 0:
            raise ReasonEnvsError(f"limit={limit}: the time limit is in seconds and must be above 0.")
        self.workers = workers or min(4, os.cpu_count() or 1)
        self.limit = limit
        self._start_over()
        _pools.add(self)

    def submit(self, gold: str, answer: str) -> Future[str]:
        """Queue two normalised answers; the result is a reason (see ``MathGrade.reason``)."""
        return self._executor.submit(self._judge, gold, answer)

    def close(self) -> None:
        """Drop what is queued, wait for what is running and end the workers."""
        self._executor.shutdown(cancel_futures=True)
        while self._idle:
            self._idle.pop().kill()

    def _judge(self, gold: str, answer: str) -> str:
        for attempt in range(2):  # a worker may have died while idle: the pair at hand is not to blame
            worker = self._idle_worker() if attempt == 0 else _Worker()
            try:
                reason = worker.ask(gold, answer, self.limit)
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

    def _idle_worker(self) -> _Worker:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _Worker()

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._executor = ThreadPoolExecutor(self.workers, thread_name_prefix="grading")


_workers: weakref.WeakSet[_Worker] = weakref.WeakSet()
_pools: weakref.WeakSet[GradingPool] = weakref.WeakSet()
_default: GradingPool | None = None
_default_lock = threading.Lock()


def default_pool() -> GradingPool:
    """Return the pool that this process's graders share."""
    global _default
    with _default_lock:
        if _default is None:
            _default = GradingPool()
        return _default


def _after_fork_in_child() -> None:
    """Leave the parent's workers to the parent; threads and locks did not survive the fork."""
    global _default_lock
    _default_lock = threading.Lock()
    for worker in list(_workers):
        worker.forget()
    for pool in list(_pools):
        pool._start_over()


def _close_all() -> None:
    for pool in list(_pools):
        pool.close()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_close_all)
