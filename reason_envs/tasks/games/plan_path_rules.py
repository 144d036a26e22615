"""PlanPath: walk over a grid with walls to a goal."""

from dataclasses import dataclass, replace

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.games.moves import Cell, Walk, grid_lines, neighbour, open_cells, paths
from reason_envs.tasks.games.moves import walk as walk_with

WALL, FLOOR, PLAYER, GOAL, BOTH = "#.PG*"
"""Symbols of the cells; ``BOTH`` is the player on the goal."""


@dataclass(frozen=True)
class PathGrid:
    """A grid and the position of the player."""

    rows: int
    """Number of rows."""
    columns: int
    """Number of columns."""
    walls: frozenset[Cell]
    """Cells that cannot be entered."""
    player: Cell
    """Position of the player."""
    goal: Cell
    """Cell that the player must reach."""

    @property
    def solved(self) -> bool:
        """Whether the player stands on the goal."""
        return self.player == self.goal

    @property
    def floor(self) -> frozenset[Cell]:
        """Every cell that can be entered."""
        return open_cells(self.rows, self.columns, self.walls)


def walk(grid: PathGrid, moves: str) -> Walk[PathGrid]:
    """Make moves one by one until the goal is reached."""
    return walk_with(grid, moves, step)


def step(grid: PathGrid, move: str) -> PathGrid | None:
    """Return the grid after one move, or ``None`` if a wall or the border is in the way."""
    onward = neighbour(grid.player, move)
    return replace(grid, player=onward) if onward in grid.floor else None


def shortest_path(grid: PathGrid) -> str | None:
    """Return a shortest sequence of moves to the goal, or ``None`` if it cannot be reached."""
    return paths(grid.player, grid.floor).get(grid.goal)


def draw(grid: PathGrid) -> str:
    """Draw a grid as text, one line per row."""
    return "\n".join(
        "".join(_symbol(grid, (row, column)) for column in range(grid.columns)) for row in range(grid.rows)
    )


def read(text: str) -> PathGrid:
    """Read a drawn grid.

    Raises:
        ReasonEnvsError: the grid has other characters, not exactly one player and one goal, or a goal that cannot be
            reached.
    """
    lines = grid_lines(text)
    cells = {(row, column): symbol for row, line in enumerate(lines) for column, symbol in enumerate(line)}
    players = [cell for cell, symbol in cells.items() if symbol in (PLAYER, BOTH)]
    goals = [cell for cell, symbol in cells.items() if symbol in (GOAL, BOTH)]
    if len(players) != 1 or len(goals) != 1 or not set(cells.values()) <= {WALL, FLOOR, PLAYER, GOAL, BOTH}:
        raise ReasonEnvsError(
            f"A grid must consist of {WALL} and {FLOOR}, with one {PLAYER} and one {GOAL} (or {BOTH} for both):\n{text}"
        )
    walls = frozenset(cell for cell, symbol in cells.items() if symbol == WALL)
    grid = PathGrid(len(lines), len(lines[0]), walls, players[0], goals[0])
    if shortest_path(grid) is None:
        raise ReasonEnvsError(f"The goal of this grid cannot be reached; remove a wall:\n{text}")
    return grid


def _symbol(grid: PathGrid, cell: Cell) -> str:
    if cell in (grid.player, grid.goal):
        return BOTH if grid.solved else PLAYER if cell == grid.player else GOAL
    return WALL if cell in grid.walls else FLOOR
