"""Values that many coroutines need and one computes."""

import asyncio

import pytest

from reason_envs.rewards.code.once import Once


def test_a_value_is_computed_once_for_all_who_wait_and_ever_after():
    asked = []

    async def square(number):
        asked.append(number)
        await asyncio.sleep(0)
        return number**2

    once = Once(square)

    async def both():
        return await asyncio.gather(once(3), once(4), once(3))

    assert asyncio.run(both()) == [9, 16, 9]
    assert asyncio.run(both()) == [9, 16, 9], "in another event loop"
    assert asked == [3, 4]


def test_what_failed_is_tried_again():
    results = [ValueError("not yet"), 5]

    async def pop(_):
        await asyncio.sleep(0)
        found = results.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    once = Once(pop)

    async def both():
        return await asyncio.gather(once(1), once(1), return_exceptions=True)

    assert [type(error) for error in asyncio.run(both())] == [ValueError, ValueError]
    assert asyncio.run(once(1)) == 5


def test_whoever_gives_up_takes_the_value_from_nobody():
    release = asyncio.Event()

    async def wait(_):
        await release.wait()
        return "done"

    once = Once(wait)

    async def run():
        first, second = asyncio.ensure_future(once(1)), asyncio.ensure_future(once(1))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert asyncio.run(run()) == "done"
