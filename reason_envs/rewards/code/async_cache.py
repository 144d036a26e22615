"""A cache for coroutine functions."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

MAX_VALUES = 10_000
"""Maximum number of values that are kept; the oldest is dropped."""
Key = TypeVar("Key")
Value = TypeVar("Value")


class AsyncCache(Generic[Key, Value]):
    """Computes the value of each hashable key once.

    Concurrent callers in one event loop wait for the same computation. If it raises, the next call tries again.
    """

    def __init__(self, compute: Callable[[Key], Coroutine[Any, Any, Value]]) -> None:
        self._compute = compute
        self._values: dict[Key, Value] = {}
        self._running: dict[tuple[asyncio.AbstractEventLoop, Key], asyncio.Future[Value]] = {}

    async def __call__(self, key: Key) -> Value:
        """Return the value of a key."""
        if key not in self._values:
            place = (asyncio.get_running_loop(), key)
            if place not in self._running:
                self._running[place] = asyncio.ensure_future(self._compute(key))
                self._running[place].add_done_callback(lambda _: self._running.pop(place))
            if len(self._values) >= MAX_VALUES:
                del self._values[next(iter(self._values))]
            self._values[key] = await asyncio.shield(self._running[place])
        return self._values[key]
