"""PlanPath grids, generated so that the goal can be reached."""

from random import Random
from types import SimpleNamespace

from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.tasks.games import plan_path_rules as game
from reason_envs.tasks.games.moves import Cell, paths
from reason_envs.tasks.generated.base import Draw, Problem, generated
from reason_envs.validation import within

MAXIMUM_SIDE = 10
"""Maximum number of rows and of columns."""
_TRIES = 1_000
"""Number of grids tried for one task before its options are rejected."""


@generated
def plan_path(*, rows: int = 5, columns: int = 5, walls: float = 0.22, min_distance: int = 3) -> Draw:
    """Paths over grids with walls: find the way from P to G.

    The question is the drawn grid. The answer is a shortest path, and ``metadata["distance"]`` is its length.

    Args:
        rows: number of rows, from 2 to 10.
        columns: number of columns, from 2 to 10.
        walls: share of cells that are walls, from 0 to 0.5.
        min_distance: minimum number of moves from start to goal.
    """
    given = SimpleNamespace(rows=rows, columns=columns, walls=walls)
    within(given, rows=(2, MAXIMUM_SIDE), columns=(2, MAXIMUM_SIDE), walls=(0, 0.5))
    if not 1 <= min_distance <= rows + columns - 2:
        rule = f"must lie in [1, {rows + columns - 2}] for a grid of {rows} x {columns}."
        raise OptionError("min_distance", min_distance, rule)
    cells = [(row, column) for row in range(rows) for column in range(columns)]

    def draw(rng: Random) -> Problem:
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
            f"None of {_TRIES} grids of {rows} x {columns} with walls={walls} has two cells that are {min_distance} "
            "moves apart: take fewer walls, a larger grid or a smaller min_distance."
        )

    return draw
