"""Requests per second of 1, 2 and 4 replicas of an engine in Ray actors, whose requests wait instead of computing.

    python -m benchmarks.throughput.replicas
    python -m benchmarks.throughput.replicas requests=512 seconds=0.25

Each replica answers 16 requests at the same time. The script prints a markdown table. The scaling is the number of
requests per second divided by the number of replicas, as a share of that of one replica.
"""

from __future__ import annotations

import asyncio
import sys
import time

from agents.config.cluster import ClusterConfig, EnginePlacement
from agents.training.build import connect
from reason_envs.llm.engine import Engine, Generation, GenerationRequest
from reason_envs.registry import parse_options

SLOTS = 16
COUNTS = (1, 2, 4)


class LatencyEngine(Engine):
    """Answers each request after some seconds, and a number of requests at the same time."""

    continuous = True

    def __init__(self, seconds: float, device: str) -> None:
        self._seconds, self._slots = seconds, asyncio.Semaphore(SLOTS)

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Wait, then return empty samples."""
        async with self._slots:
            await asyncio.sleep(self._seconds)
        return [Generation("", [], None, "stop", 0, []) for _ in range(request.n)]


def requests_per_second(replicas: int, requests: int, seconds: float) -> float:
    """Start the replicas and measure how many requests they answer per second."""
    cluster = connect(ClusterConfig("local", engine=EnginePlacement(replicas)))
    assert cluster is not None
    spec = {"name": f"{__spec__.name}:LatencyEngine", "seconds": seconds, "device": "cpu"}
    engine = cluster.engine(spec)

    async def ask(count: int) -> None:
        await asyncio.gather(*(engine.generate(GenerationRequest([1], seed)) for seed in range(count)))

    try:
        asyncio.run(ask(replicas))
        start = time.perf_counter()
        asyncio.run(ask(requests))
        return requests / (time.perf_counter() - start)
    finally:
        cluster.close()


def main() -> None:
    """Measure each number of replicas and print the table."""
    options = {"requests": 256, "seconds": 1.0, **parse_options(sys.argv[1:])}
    print("| replicas | requests per second | scaling |\n|---|---|---|")
    alone = 0.0
    for count in COUNTS:
        rate = requests_per_second(count, int(options["requests"]), float(options["seconds"]))
        alone = alone or rate
        print(f"| {count} | {rate:.1f} | {rate / count / alone:.2f} |", flush=True)


if __name__ == "__main__":
    if "--help" in sys.argv:
        print(__doc__)
    else:
        main()
