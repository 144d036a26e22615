"""Programs per second of the sandboxes on this machine.

    python benchmarks/throughput/sandbox.py                       # native and monty, one worker per processor
    python benchmarks/throughput/sandbox.py workers=1 programs=500

Each program defines a small function and computes two of its values. The script prints a markdown table of medians.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time

from reason_envs.sandbox import Program, Sandbox, make_sandbox

REPEATS = 5
SOURCE = "def gcd(a, b):\n    while b:\n        a, b = b, a % b\n    return a\n\nprint('ready')"


async def speed(sandbox: Sandbox, count: int) -> float:
    """Return the programs per second in one batch. Every value is checked."""
    programs = [Program(SOURCE, expressions=(f"gcd({i} * 6, 84)", "gcd(17, 5)")) for i in range(1, count + 1)]
    start = time.perf_counter()
    outcomes = await asyncio.gather(*(sandbox.run(program) for program in programs))
    seconds = time.perf_counter() - start
    if any(outcome.status != "ok" or outcome.values[1] != 1 for outcome in outcomes):
        raise RuntimeError("A program failed, so its time cannot be used.")
    return count / seconds


async def median_speed(sandbox: Sandbox, count: int) -> float:
    """Return the median over several batches, after a batch that starts the workers."""
    await speed(sandbox, 10)
    return statistics.median([await speed(sandbox, count) for _ in range(REPEATS)])


def main() -> None:
    """Measure and print."""
    if "--help" in sys.argv:
        print(__doc__)
        return
    options = {"programs": 300, "workers": os.cpu_count() or 1}
    options.update((name, int(value)) for name, value in (argument.split("=", 1) for argument in sys.argv[1:]))
    print("| sandbox | programs/s |\n|---|---|")
    for name in ("native", "monty"):
        sandbox = make_sandbox(name, workers=options["workers"])
        print(f"| `{name}` | {asyncio.run(median_speed(sandbox, options['programs'])):,.0f} |", flush=True)
        sandbox.close()
    native = make_sandbox("native")
    print(json.dumps({**options, "layers": native.layers}))


if __name__ == "__main__":
    main()
