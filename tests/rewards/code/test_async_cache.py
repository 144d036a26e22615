"""Values that are computed once for many coroutines."""

import asyncio

import pytest

from reason_envs.rewards.code.async_cache import AsyncCache


def test_async_cache_computes_each_value_cached():
    asked = []

    async def square(number):
        asked.append(number)
        await asyncio.sleep(0)
        return number**2

    cached = AsyncCache(square)

    async def both():
        return await asyncio.gather(cached(3), cached(4), cached(3))

    assert asyncio.run(both()) == [9, 16, 9]
    assert asyncio.run(both()) == [9, 16, 9], "in another event loop"
    assert asked == [3, 4]


def test_async_cache_tries_again_after_an_error():
    results = [ValueError("not yet"), 5]

    async def pop(_):
        await asyncio.sleep(0)
        found = results.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    cached = AsyncCache(pop)

    async def both():
        return await asyncio.gather(cached(1), cached(1), return_exceptions=True)

    assert [type(error) for error in asyncio.run(both())] == [ValueError, ValueError]
    assert asyncio.run(cached(1)) == 5


def test_async_cache_keeps_computing_when_a_caller_is_cancelled():
    release = asyncio.Event()

    async def wait(_):
        await release.wait()
        return "done"

    cached = AsyncCache(wait)

    async def run():
        first, second = asyncio.ensure_future(cached(1)), asyncio.ensure_future(cached(1))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert asyncio.run(run()) == "done"
