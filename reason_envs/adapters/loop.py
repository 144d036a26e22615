"""An event loop in a separate thread, so that synchronous code can call asynchronous environments.

All adapters of a process share the loop. It also works where an event loop runs already, as in a notebook.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop that runs in a daemon thread of the process that made it."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="reason_envs-loop", daemon=True)
        self._thread.start()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the loop."""
        problem = self._problem()
        if problem:
            coroutine.close()
            raise RuntimeError(problem)
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result. An interrupt of the caller cancels it."""
        future = self.start(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _problem(self) -> str | None:
        if os.getpid() != self._process:
            return (
                f"Process {os.getpid()} was forked from {self._process} after that had used environments; threads and "
                "models do not survive a fork. Use gymnasium.make_vec(id, num_envs=...), which batches environments in "
                "one process, or start the workers with multiprocessing's 'spawn' method."
            )
        if threading.current_thread() is self._thread:
            return (
                "An asynchronous environment called a synchronous one, which would block forever. Inside, use "
                "reason_envs.make_environment(...) and await its reset and step."
            )
        return None


_LOCK = threading.Lock()
_thread: LoopThread | None = None


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the loop thread of the process. The first call starts the thread."""
    return _loop_thread().run(coroutine)


def run_apart(coroutine: Coroutine[Any, Any, T], *, stop: Callable[[], None] = lambda: None) -> T:
    """Run a coroutine in a separate event loop and return its result. An interrupt of the caller calls ``stop``."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(asyncio.run, coroutine)
        try:
            return future.result()
        except BaseException:
            stop()
            raise


async def run_from_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the loop thread of the process and await its result in another event loop."""
    return await asyncio.wrap_future(_loop_thread().start(coroutine))


def _loop_thread() -> LoopThread:
    global _thread
    with _LOCK:
        if _thread is None:
            _thread = LoopThread()
    return _thread
