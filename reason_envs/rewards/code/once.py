"""Computing what many coroutines need once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Once(Generic[Key, Value]):
    """Remembers what a coroutine function returned for each key.

    Whoever asks while a value is computed waits for it, within one event loop; what raised is tried again.
    """

    def __init__(self, compute: Callable[[Key], Coroutine[Any, Any, Value]]) -> None:
        """Remember how values are computed.

        Args:
            compute: called with a key, which can be hashed.
        """
        self._compute = compute
        self._known: dict[Key, Value] = {}
        self._under_way: dict[tuple[asyncio.AbstractEventLoop, Key], asyncio.Future[Value]] = {}

    async def __call__(self, key: Key) -> Value:
        """Return the value of a key."""
        if key not in self._known:
            place = (asyncio.get_running_loop(), key)
            if place not in self._under_way:
                self._under_way[place] = asyncio.ensure_future(self._compute(key))
                self._under_way[place].add_done_callback(lambda _: self._under_way.pop(place))
            self._known[key] = await asyncio.shield(self._under_way[place])
        return self._known[key]
