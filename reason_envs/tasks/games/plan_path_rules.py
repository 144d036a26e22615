"""PlanPath: walk over a grid with walls to a goal."""

from dataclasses import dataclass, replace
from typing import Self

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.games.moves import Cell, Level, neighbour, paths, read_grid

WALL, FLOOR, PLAYER, GOAL, BOTH = "#.PG*"
"""Symbols of the cells; ``BOTH`` is the player on the goal."""


@dataclass(frozen=True)
class PathGrid(Level):
    """A grid and the position of the player."""

    goal: Cell
    """Cell that the player must reach."""

    @property
    def solved(self) -> bool:
        """Whether the player stands on the goal."""
        return self.player == self.goal

    def step(self, move: str) -> Self | None:
        """Return the grid after one move, or ``None`` if a wall or the border is in the way."""
        onward = neighbour(self.player, move)
        return replace(self, player=onward) if onward in self.floor else None

    def symbol(self, cell: Cell) -> str:
        """Return the character of a cell."""
        if cell in (self.player, self.goal):
            return BOTH if self.solved else PLAYER if cell == self.player else GOAL
        return WALL if cell in self.walls else FLOOR


def shortest_path(grid: PathGrid) -> str | None:
    """Return a shortest sequence of moves to the goal, or ``None`` if it cannot be reached."""
    return paths(grid.player, grid.floor).get(grid.goal)


def read(text: str) -> PathGrid:
    """Read a drawn grid.

    Raises:
        ReasonEnvsError: the grid has other characters, not exactly one player and one goal, or a goal that cannot be
            reached.
    """
    rows, columns, cells = read_grid(text)
    players = [cell for cell, symbol in cells.items() if symbol in (PLAYER, BOTH)]
    goals = [cell for cell, symbol in cells.items() if symbol in (GOAL, BOTH)]
    if len(players) != 1 or len(goals) != 1 or not set(cells.values()) <= {WALL, FLOOR, PLAYER, GOAL, BOTH}:
        raise ReasonEnvsError(
            f"A grid must consist of {WALL} and {FLOOR}, with one {PLAYER} and one {GOAL} (or {BOTH} for both):\n{text}"
        )
    walls = frozenset(cell for cell, symbol in cells.items() if symbol == WALL)
    grid = PathGrid(rows, columns, walls, players[0], goals[0])
    if shortest_path(grid) is None:
        raise ReasonEnvsError(f"The goal of this grid cannot be reached; remove a wall:\n{text}")
    return grid
