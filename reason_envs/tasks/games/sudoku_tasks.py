"""Sudoku puzzles, generated so that each has exactly one solution."""

from random import Random

from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.tasks.games import sudoku_rules as game
from reason_envs.tasks.generated.base import Draw, Problem, check_range, generated

_TRIES = 20
"""Number of grids tried for one puzzle before its options are rejected."""


@generated
def sudoku(*, side: int = 4, min_empty: int | None = None, max_empty: int | None = None) -> Draw:
    """Sudoku puzzles of 4x4, 6x6 or 9x9 cells with exactly one solution.

    The question is the drawn puzzle with dots for empty cells. The answer is the drawn solution. A cell is emptied only
    if the solution remains unique, so a puzzle may have fewer empty cells than ``max_empty``.

    Args:
        side: number of rows, of columns and of digits: 4, 6 or 9.
        min_empty: minimum number of empty cells. ``None``: a quarter of the cells.
        max_empty: maximum number of empty cells. ``None``: half of the cells.
    """
    if side not in game.BOXES:
        raise OptionError("side", side, f"must be one of {', '.join(map(str, game.BOXES))}.")
    minimum = side * side // 4 if min_empty is None else min_empty
    maximum = side * side // 2 if max_empty is None else max_empty
    check_range(1, side * side, min_empty=minimum, max_empty=maximum)

    def draw(rng: Random) -> Problem:
        for _ in range(_TRIES):
            solution = game.random_grid(side, rng)
            puzzle = _emptied(side, solution, rng.randint(minimum, maximum), rng)
            if (empty := puzzle.count(game.EMPTY)) >= minimum:
                return game.draw(side, puzzle), game.draw(side, solution), {"side": side, "empty": empty}
        raise ReasonEnvsError(
            f"None of {_TRIES} grids of {side} x {side} keeps a unique solution with {minimum} empty cells: take a "
            "smaller min_empty."
        )

    return draw


def _emptied(side: int, solution: game.Cells, wanted: int, rng: Random) -> game.Cells:
    """Empty up to ``wanted`` cells in random order, each only if the solution remains unique."""
    cells = list(solution)
    for place in rng.sample(range(len(cells)), len(cells)):
        if cells.count(game.EMPTY) == wanted:
            break
        kept, cells[place] = cells[place], game.EMPTY
        if len(game.solutions(side, tuple(cells))) != 1:
            cells[place] = kept
    return tuple(cells)
