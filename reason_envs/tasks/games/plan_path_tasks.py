"""Walks over grids with walls, generated so that the goal can be reached."""

from __future__ import annotations

from random import Random

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.base import Split
from reason_envs.tasks.games import plan_path_rules as game
from reason_envs.tasks.games.moves import Cell, paths
from reason_envs.tasks.generated.base import GeneratedTaskSet, Problem, checked_size

MOST = 10
"""Largest number of rows and of columns."""
_TRIES = 1_000
"""Grids tried for one problem before its options are called impossible."""


def plan_path(
    split: Split,
    *,
    rows: int = 5,
    columns: int = 5,
    walls: float = 0.22,
    min_distance: int = 3,
    size: int | None = None,
    seed: int = 0,
    max_samples: int | None = None,
) -> GeneratedTaskSet:
    """Paths over grids with walls: find the way from P to G.

    The question is the drawn grid, the answer a shortest path, ``metadata["distance"]`` its length.

    Args:
        split: ``"train"`` or ``"test"``.
        rows: rows of a grid, 10 at most.
        columns: columns of a grid, 10 at most.
        walls: share of cells that are walls.
        min_distance: fewest moves from start to goal.
        size: how many problems; ``None``: 10,000 for train, 2,048 for test.
        seed: picks the problems.
        max_samples: the first ones only.
    """
    for name, value in (("rows", rows), ("columns", columns)):
        if not 2 <= value <= MOST:
            raise ReasonEnvsError(f"{name}={value} must be between 2 and {MOST}.")
    if not 0 <= walls <= 0.5:
        raise ReasonEnvsError(f"walls={walls} must be between 0 and 0.5: more leave hardly any way.")
    if not 1 <= min_distance <= rows + columns - 2:
        raise ReasonEnvsError(f"min_distance={min_distance} must be between 1 and {rows + columns - 2} on this grid.")

    def draw(address: int) -> Problem:
        return _draw(Random(address), rows, columns, walls, min_distance)

    return GeneratedTaskSet("plan_path", split, draw, checked_size(split, size, seed, max_samples), seed)


def _draw(rng: Random, rows: int, columns: int, walls: float, min_distance: int) -> Problem:
    cells = [(row, column) for row in range(rows) for column in range(columns)]
    for _ in range(_TRIES):
        blocked = frozenset(rng.sample(cells, round(walls * len(cells))))
        free = [cell for cell in cells if cell not in blocked]
        start = rng.choice(free)
        reached = paths(start, frozenset(free))
        far: list[Cell] = [cell for cell in free if len(reached.get(cell, "")) >= min_distance]
        if far:
            goal = rng.choice(far)
            grid = game.PathGrid(rows, columns, blocked, start, goal)
            return game.draw(grid), reached[goal], {"distance": len(reached[goal])}
    raise ReasonEnvsError(
        f"{_TRIES} grids of {rows} x {columns} with walls={walls} had no two cells {min_distance} moves apart: "
        "take fewer walls, a larger grid or a smaller min_distance."
    )
