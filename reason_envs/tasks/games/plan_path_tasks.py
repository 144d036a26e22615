"""PlanPath grids, generated so that the goal can be reached."""

from random import Random
from types import SimpleNamespace

from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.tasks.base import Split
from reason_envs.tasks.games import plan_path_rules as game
from reason_envs.tasks.games.moves import Cell, paths
from reason_envs.tasks.generated.base import GeneratedTaskSet, Problem, checked_size
from reason_envs.validation import within

MAXIMUM_SIDE = 10
"""Maximum number of rows and of columns."""
_TRIES = 1_000
"""Number of grids tried for one task before its options are rejected."""


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

    The question is the drawn grid. The answer is a shortest path, and ``metadata["distance"]`` is its length.

    Args:
        split: ``"train"`` or ``"test"``.
        rows: number of rows, from 2 to 10.
        columns: number of columns, from 2 to 10.
        walls: share of cells that are walls, from 0 to 0.5.
        min_distance: minimum number of moves from start to goal.
        size: number of tasks. ``None``: 10,000 for train and 2,048 for test.
        seed: seed of the tasks.
        max_samples: maximum number of tasks; the first ones are kept. ``None``: all.
    """
    within(SimpleNamespace(rows=rows, columns=columns), 2, MAXIMUM_SIDE, "rows", "columns")
    within(SimpleNamespace(walls=walls), 0, 0.5, "walls")
    if not 1 <= min_distance <= rows + columns - 2:
        rule = f"must lie in [1, {rows + columns - 2}] for a grid of {rows} x {columns}."
        raise OptionError("min_distance", min_distance, rule)

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
            return grid.draw(), reached[goal], {"distance": len(reached[goal])}
    raise ReasonEnvsError(
        f"None of {_TRIES} grids of {rows} x {columns} with walls={walls} has two cells that are {min_distance} moves "
        "apart: take fewer walls, a larger grid or a smaller min_distance."
    )
