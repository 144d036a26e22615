"""Running a coroutine to its end, also where an event loop runs already, as in a notebook."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run_apart(coroutine: Coroutine[Any, Any, T], *, stop: Callable[[], None] = lambda: None) -> T:
    """Run a coroutine in an event loop of its own and return its result.

    Args:
        coroutine: the coroutine.
        stop: asks the coroutine to end soon. It is called if the caller is interrupted.
    """
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
