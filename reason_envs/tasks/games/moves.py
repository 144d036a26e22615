"""Moves on a grid: how they are read from text, and how cells are reached."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Container

from reason_envs.tasks.text import last_boxed

Cell = tuple[int, int]
"""Row and column, counted from the upper left corner."""
MOVES: dict[str, Cell] = {"U": (-1, 0), "D": (1, 0), "L": (0, -1), "R": (0, 1)}
"""Letter of each move and where it leads."""
_WORDS = {"UP": "U", "DOWN": "D", "LEFT": "L", "RIGHT": "R"}
_SEPARATORS = re.compile(r"[\s,;\-\[\]()\"'.>]+")


def read_moves(text: str, most: int) -> str | None:
    r"""Read moves such as ``RRDD``, ``r r d d``, ``["R", "D"]`` or ``right, down``.

    They stand in the last ``\boxed{}`` or, where there is none, make up the last line that is not empty.

    Args:
        text: what was written.
        most: longest sequence that is taken.

    Returns:
        The letters; ``None`` where anything else stands there, nothing, or more than ``most`` moves.
    """
    boxed = last_boxed(text)
    lines = [line for line in text.splitlines() if line.strip()]
    found = boxed if boxed is not None else lines[-1] if lines else ""
    parts = [part for part in _SEPARATORS.split(found.upper()) if part]
    moves = "".join(_WORDS.get(part, part) for part in parts)
    return moves if 0 < len(moves) <= most and set(moves) <= set(MOVES) else None


def neighbour(cell: Cell, move: str) -> Cell:
    """Return the cell that a move leads to."""
    return cell[0] + MOVES[move][0], cell[1] + MOVES[move][1]


def open_cells(rows: int, columns: int, walls: frozenset[Cell]) -> frozenset[Cell]:
    """Return every cell of a grid that is no wall."""
    return frozenset((row, column) for row in range(rows) for column in range(columns)) - walls


def paths(start: Cell, free: Container[Cell]) -> dict[Cell, str]:
    """Return a shortest sequence of moves to every cell that can be reached over free cells."""
    found, queue = {start: ""}, deque([start])
    while queue:
        cell = queue.popleft()
        for move in MOVES:
            onward = neighbour(cell, move)
            if onward in free and onward not in found:
                found[onward] = found[cell] + move
                queue.append(onward)
    return found


def grid_lines(text: str) -> list[str]:
    """Split a drawn grid into lines of equal length, filled with spaces on the right; empty lines are left out."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    width = max((len(line) for line in lines), default=0)
    return [line.ljust(width) for line in lines]
