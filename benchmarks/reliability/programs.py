"""Hostile programs in every sandbox layout of this machine: breaches, late ends and unexpected endings.

    python -m benchmarks.reliability.programs
    setpriv --reuid 65534 --regid 65534 --clear-groups python -m benchmarks.reliability.programs --seed 1   # no root

The layouts are: Landlock as the kernel has it and each earlier version, bubblewrap if it is installed, and Monty.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from dataclasses import replace
from functools import partial
from typing import Any

from hostile_classes import PROGRAMS as BY_CLASS
from hostile_programs import PROGRAMS as FIRST
from hostile_world import SECRET, World, open_world

from benchmarks.reliability.common import measure, options
from reason_envs.sandbox import Limits, Program, Sandbox, make_sandbox, native
from reason_envs.sandbox.layers import Layers, detect

LIMITS = Limits(seconds=2.0, memory_mb=256)
LATE = 1.0
"""Seconds after the limit in which a program must have ended."""
PROGRAMS = {**FIRST, **BY_CLASS}


def layouts() -> dict[str, Layers | None]:
    """Return the layers of each layout; ``None`` for Monty."""
    found = detect()
    user = "root" if os.geteuid() == 0 else "an ordinary user"
    with_landlock = {
        f"native, Landlock {version}, {user}": replace(found, landlock=version, bubblewrap=None)
        for version in range(found.landlock, 0, -1)
    }
    with_bubblewrap = {
        f"native, bubblewrap and Landlock {version}, {user}": replace(found, landlock=version)
        for version in ((found.landlock, 0) if found.bubblewrap else ())
    }
    return {**with_landlock, **with_bubblewrap, f"monty, {user}": None}


def attack(sandbox: Sandbox, world: World, seed: int, layers: Layers | None) -> dict[str, Any]:
    """Run all programs in random order, two at a time; return the results."""
    programs = list(PROGRAMS.items())
    random.Random(seed).shuffle(programs)
    sandbox.execute(Program(""))

    async def run() -> list[Any]:
        filled = [Program(world.fill(hostile.source), limits=LIMITS) for _, hostile in programs]
        return await asyncio.gather(*(sandbox.run(program) for program in filled))

    outcomes = dict(zip((name for name, _ in programs), asyncio.run(run()), strict=True))
    works = [sandbox.execute(Program("x = 6 * 7", expressions=("x",))).values for _ in range(4)] == [(42,)] * 4
    breaches = [n for n, o in outcomes.items() if "ESCAPED" in o.stdout + o.stderr or SECRET in repr(o)]
    late = [name for name, outcome in outcomes.items() if outcome.seconds > LIMITS.seconds + LATE]
    odd = [n for n, outcome in outcomes.items() if layers and outcome.status not in PROGRAMS[n].statuses]
    damage = [] if works and world.is_untouched() else ["the sandbox or the world is damaged"]
    return {
        "programs": len(programs),
        "breaches": len(breaches),
        "later than the limit + 1 s": len(late),
        "longest (s)": round(max(outcome.seconds for outcome in outcomes.values()), 2),
        "unexpected endings": len(odd),
        "bad": [*breaches, *late, *odd, *damage],
    }


def cell(layers: Layers | None, seed: int) -> dict[str, Any]:
    """Measure one layout."""
    if layers is not None:
        native.detect = lambda: layers  # type: ignore[assignment]
    sandbox = make_sandbox("monty" if layers is None else "native", workers=2)
    with open_world() as world:
        try:
            return attack(sandbox, world, seed, layers)
        finally:
            sandbox.close()


def main() -> int:
    """Measure every layout."""
    given = options(__doc__)
    os.environ["REASON_ENVS_TEST_SECRET"] = SECRET
    cells = {name: partial(cell, layers, given.seed) for name, layers in layouts().items()}
    return measure("programs", given.seed, cells)


if __name__ == "__main__":
    sys.exit(main())
