"""What grid games share: reading moves from text, walking, shortest paths and drawn grids."""

import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Container
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, Self, TypeVar

from reason_envs.tasks.text import last_boxed, without_thoughts

Cell = tuple[int, int]
"""Row and column, counted from the upper left corner."""
MOVES: dict[str, Cell] = {"U": (-1, 0), "D": (1, 0), "L": (0, -1), "R": (0, 1)}
"""Change of row and column for each move."""
_WORDS = {"UP": "U", "DOWN": "D", "LEFT": "L", "RIGHT": "R"}
_SEPARATORS = re.compile(r"[\s,;\-\[\]()\"'.>]+")


@dataclass(frozen=True)
class Level(ABC):
    """State of a game on a grid with walls."""

    rows: int
    """Number of rows."""
    columns: int
    """Number of columns."""
    walls: frozenset[Cell]
    """Cells that nothing can enter."""
    player: Cell
    """Position of the player."""

    @property
    @abstractmethod
    def solved(self) -> bool:
        """Whether the game is solved."""

    @abstractmethod
    def step(self, move: str) -> Self | None:
        """Return the level after one move, or ``None`` if the move is not possible."""

    @abstractmethod
    def symbol(self, cell: Cell) -> str:
        """Return the character of a cell in a drawn level."""

    @property
    def floor(self) -> frozenset[Cell]:
        """Every cell that is not a wall."""
        return frozenset((row, column) for row in range(self.rows) for column in range(self.columns)) - self.walls

    def walk(self, moves: str) -> "Walk[Self]":
        """Make moves, which are letters of ``MOVES``, one by one until the game is solved."""
        state, made, blocked = self, 0, 0
        for move in moves:
            if state.solved:
                break
            made += 1
            after = state.step(move)
            blocked += after is None
            state = after or state
        return Walk(state, made, blocked)

    def draw(self) -> str:
        """Draw the level as text, one line per row."""
        columns = range(self.columns)
        return "\n".join("".join(self.symbol((row, column)) for column in columns) for row in range(self.rows))


State = TypeVar("State", bound=Level)


@dataclass(frozen=True)
class Walk(Generic[State]):
    """Result of a sequence of moves."""

    state: State
    """State of the game after the moves."""
    moves: int
    """Number of moves that were made; moves after the game was solved do not count."""
    blocked: int
    """Number of moves that were not possible and changed nothing."""


def read_moves(text: str, maximum: int) -> str | None:
    r"""Read at most ``maximum`` moves such as ``RRDD``, ``r r d d``, ``["R", "D"]`` or ``right, down``.

    The moves are the content of the last ``\boxed{}``. Without a box, they are the last line that is not empty.
    ``None``: the response has no move, more moves, or other text beside them.
    """
    text = without_thoughts(text)
    boxed = last_boxed(text)
    lines = [line for line in text.splitlines() if line.strip()]
    found = boxed if boxed is not None else lines[-1] if lines else ""
    moves = "".join(_WORDS.get(part, part) for part in _SEPARATORS.split(found.upper()) if part)
    return moves if 0 < len(moves) <= maximum and set(moves) <= set(MOVES) else None


def neighbour(cell: Cell, move: str) -> Cell:
    """Return the cell that a move leads to."""
    return cell[0] + MOVES[move][0], cell[1] + MOVES[move][1]


@lru_cache(maxsize=4096)
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


def read_grid(text: str) -> tuple[int, int, dict[Cell, str]]:
    """Read a drawn grid; return its numbers of rows and columns, and the character of each cell.

    Lines are padded with spaces on the right. Empty lines are left out.
    """
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    width = max((len(line) for line in lines), default=0)
    cells = {(row, column): line.ljust(width)[column] for row, line in enumerate(lines) for column in range(width)}
    return len(lines), width, cells
