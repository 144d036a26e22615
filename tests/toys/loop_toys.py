"""How long an event loop is silent."""

import asyncio
import itertools
import time


async def longest_silence(coroutine):
    """Return the longest time in seconds that the event loop's other tasks had to wait while a coroutine ran."""
    ticks = [time.perf_counter()]

    async def tick():
        while True:
            await asyncio.sleep(0.002)
            ticks.append(time.perf_counter())

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    await coroutine
    ticks.append(time.perf_counter())
    ticking.cancel()
    return max(b - a for a, b in itertools.pairwise(ticks))
