"""Sudoku puzzles, generated so that each has exactly one solution."""

from __future__ import annotations

from random import Random

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.base import Split
from reason_envs.tasks.games import sudoku_rules as game
from reason_envs.tasks.generated.base import GeneratedTaskSet, Problem, checked_size

_TRIES = 20
"""Grids tried for one puzzle before its options are called impossible."""


def sudoku(
    split: Split,
    *,
    side: int = 4,
    min_empty: int | None = None,
    max_empty: int | None = None,
    size: int | None = None,
    seed: int = 0,
    max_samples: int | None = None,
) -> GeneratedTaskSet:
    """Sudoku puzzles of 4x4, 6x6 or 9x9 cells with exactly one solution.

    The question is the drawn puzzle with dots for empty cells, the answer the drawn solution. A cell is emptied only
    where the solution stays the only one, so that a puzzle may have fewer empty cells than ``max_empty`` allows.

    Args:
        split: ``"train"`` or ``"test"``.
        side: rows, columns and digits: 4, 6 or 9.
        min_empty: fewest cells to empty; ``None``: a quarter of them.
        max_empty: most cells to empty; ``None``: half of them.
        size: how many problems; ``None``: 10,000 for train, 2,048 for test.
        seed: picks the problems.
        max_samples: the first ones only.
    """
    if side not in game.BOXES:
        raise ReasonEnvsError(f"side={side} must be one of {', '.join(map(str, game.BOXES))}.")
    least = side * side // 4 if min_empty is None else min_empty
    most = side * side // 2 if max_empty is None else max_empty
    if not 1 <= least <= most <= side * side:
        raise ReasonEnvsError(f"min_empty={least}, max_empty={most}: they rise between 1 and {side * side}.")

    def draw(address: int) -> Problem:
        rng = Random(address)
        for _ in range(_TRIES):
            solution = game.random_grid(side, rng)
            puzzle = _emptied(side, solution, rng.randint(least, most), rng)
            if (empty := puzzle.count(game.EMPTY)) >= least:
                return game.draw(side, puzzle), game.draw(side, solution), {"side": side, "empty": empty}
        raise ReasonEnvsError(
            f"None of {_TRIES} grids of {side} x {side} could be emptied in {least} cells and keep one solution: take "
            "a smaller min_empty."
        )

    return GeneratedTaskSet("sudoku", split, draw, checked_size(split, size, seed, max_samples), seed)


def _emptied(side: int, solution: game.Cells, wanted: int, rng: Random) -> game.Cells:
    """Empty cells in random order wherever the solution stays the only one, until so many are empty."""
    cells = list(solution)
    for place in rng.sample(range(len(cells)), len(cells)):
        if cells.count(game.EMPTY) == wanted:
            break
        kept, cells[place] = cells[place], game.EMPTY
        if len(game.solutions(side, tuple(cells))) != 1:
            cells[place] = kept
    return tuple(cells)
