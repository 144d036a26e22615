"""An event loop in a separate thread, which code in other threads and event loops can use."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop that runs in a daemon thread of the process that made it."""

    def __init__(self, name: str = "reason_envs-loop") -> None:
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    async def answer(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and await its result in another event loop. Cancelling the caller cancels the coroutine."""
        return await asyncio.wrap_future(self._start(coroutine))

    def _start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        if os.getpid() != self._process:
            problem = (
                f"Process {os.getpid()} was forked from {self._process} after that had used environments; threads and "
                "models do not survive a fork. Use gymnasium.make_vec(id, num_envs=...), which batches environments in "
                "one process, or start the workers with multiprocessing's 'spawn' method."
            )
        elif threading.current_thread() is self._thread:
            problem = (
                "An asynchronous environment called a synchronous one, which would block forever. Inside, use "
                "reason_envs.make_environment(...) and await its reset and step."
            )
        else:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        coroutine.close()
        raise RuntimeError(problem)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result. An interrupt of the caller cancels it."""
        future = self._start(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel the coroutines that run, and end the thread."""
        self.run(_cancel_other_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_other_tasks() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
