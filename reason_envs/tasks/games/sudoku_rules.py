"""Sudoku of 4x4, 6x6 and 9x9 cells."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from random import Random

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.text import last_boxed, without_thoughts

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
"""Rows and columns of a box for each side length of the grid."""
EMPTY = 0
_DRAWN_EMPTY = "."
_NOISE = re.compile(r"[\s,;|\[\]()+\-`]+")

Cells = tuple[int, ...]
"""Digits row by row; 0 is an empty cell."""


@dataclass(frozen=True)
class Sudoku:
    """A puzzle and its current cells."""

    side: int
    """Number of rows, of columns and of digits."""
    clues: Cells
    """Cells of the puzzle; clues cannot change."""
    cells: Cells
    """Current cells, clues included."""

    @property
    def solved(self) -> bool:
        """Whether every cell is filled and no two digits conflict."""
        return EMPTY not in self.cells and not conflicts(self.side, self.cells)


def fill(sudoku: Sudoku, cells: Cells) -> Sudoku | None:
    """Return the puzzle with other cells, or ``None`` if they change or omit a clue."""
    kept = all(clue in (EMPTY, cell) for clue, cell in zip(sudoku.clues, cells, strict=True))
    return replace(sudoku, cells=cells) if kept else None


def conflicts(side: int, cells: Cells) -> int:
    """Return the number of cells whose digit occurs again in their row, column or box."""
    return sum(cell != EMPTY and any(cells[peer] == cell for peer in peers(side)[i]) for i, cell in enumerate(cells))


def solutions(side: int, cells: Cells, maximum: int = 2) -> list[Cells]:
    """Return at most ``maximum`` ways to fill the empty cells."""
    return [] if conflicts(side, cells) else list(islice(_search(side, list(cells)), maximum))


@cache
def peers(side: int) -> tuple[frozenset[int], ...]:
    """Return, for each cell, the other cells of its row, column and box."""
    high, wide = BOXES[side]

    def box(row: int, column: int) -> tuple[int, int]:
        return row // high, column // wide

    places = [(row, column) for row in range(side) for column in range(side)]
    return tuple(
        frozenset(
            i
            for i, (r, c) in enumerate(places)
            if (r, c) != (row, column) and (r == row or c == column or box(r, c) == box(row, column))
        )
        for row, column in places
    )


def draw(side: int, cells: Cells) -> str:
    """Draw cells as text, one line per row and a dot per empty cell."""
    digits = "".join(str(cell) if cell else _DRAWN_EMPTY for cell in cells)
    return "\n".join(digits[i : i + side] for i in range(0, len(digits), side))


def read(text: str) -> Sudoku:
    """Read a drawn puzzle.

    Raises:
        ReasonEnvsError: the text is not a grid of a known size, or the puzzle does not have exactly one solution.
    """
    side = len(text.split()[0]) if text.split() else 0
    cells = read_cells(text, side) if side in BOXES else None
    if cells is None:
        raise ReasonEnvsError(
            f"A sudoku must have {', '.join(map(str, BOXES))} rows, each of as many digits or dots:\n{text}"
        )
    if (count := len(solutions(side, cells))) != 1:
        raise ReasonEnvsError(
            f"A sudoku must have exactly one solution; this one has {'none' if count == 0 else 'several'}:\n{text}"
        )
    return Sudoku(side, cells, cells)


def read_cells(text: str, side: int) -> Cells | None:
    r"""Read a grid from a response: the last ``\boxed{}``, or the last rows without a box.

    Spaces, commas, brackets and the usual lines of drawn grids may separate digits. Line breaks or slashes separate
    rows. ``.``, ``_`` and ``0`` are empty cells. ``None``: the response has no complete grid.
    """
    text = without_thoughts(text)
    boxed = last_boxed(text)
    rows = [row for line in re.split(r"\\\\|[\n/]", text if boxed is None else boxed) if (row := _row(line))]
    whole = "".join(rows[-1:]) if rows and len(rows[-1]) == side * side else "".join(rows[-side:])
    if len(whole) != side * side or any(len(row) not in (side, side * side) for row in rows[-side:]):
        return None
    cells = tuple(int(symbol) for symbol in whole)
    return cells if max(cells) <= side else None


def _row(line: str) -> str:
    """Return the digits of a line, ``"x"`` if it is not part of a grid, or ``""`` if it is a separator."""
    packed = _NOISE.sub("", line).replace(_DRAWN_EMPTY, "0").replace("_", "0")
    return packed if packed.isascii() and packed.isdigit() else "x" if packed else ""


def random_grid(side: int, rng: Random) -> Cells:
    """Return a complete grid without conflicts."""
    return next(_search(side, [EMPTY] * side * side, rng))


def _search(side: int, cells: list[int], rng: Random | None = None) -> Iterator[Cells]:
    """Yield every way to fill the empty cells, the most constrained cell first. ``rng`` shuffles the digits."""
    place, candidates = _tightest(side, cells)
    if place is None:
        yield tuple(cells)
        return
    if rng is not None:
        rng.shuffle(candidates)
    for digit in candidates:
        cells[place] = digit
        yield from _search(side, cells, rng)
    cells[place] = EMPTY


def _tightest(side: int, cells: list[int]) -> tuple[int | None, list[int]]:
    """Return the empty cell with the minimum number of candidates, and these; ``None`` if no cell is empty."""
    best: tuple[int | None, list[int]] = (None, [])
    for i, cell in enumerate(cells):
        if cell == EMPTY:
            taken = {cells[peer] for peer in peers(side)[i]}
            left = [digit for digit in range(1, side + 1) if digit not in taken]
            if len(left) <= 1:
                return i, left
            if best[0] is None or len(left) < len(best[1]):
                best = i, left
    return best
