"""An event loop in a separate thread, so that synchronous code can call asynchronous environments.

All adapters of a process share the loop. It also works where an event loop runs already, as in a notebook.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from reason_envs.loop_thread import LoopThread

T = TypeVar("T")

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
    return await _loop_thread().answer(coroutine)


def _loop_thread() -> LoopThread:
    global _thread
    with _LOCK:
        if _thread is None:
            _thread = LoopThread()
    return _thread
