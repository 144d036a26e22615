"""PlanPath: a walk over a grid with walls to a goal."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.games.moves import Cell, grid_lines, neighbour, open_cells, paths

WALL, FLOOR, PLAYER, GOAL, BOTH = "#.PG*"
"""How cells are drawn; ``BOTH`` is the player on the goal."""


@dataclass(frozen=True)
class PathGrid:
    """A grid and where the player stands."""

    rows: int
    """Number of rows."""
    columns: int
    """Number of columns."""
    walls: frozenset[Cell]
    """Cells that cannot be entered."""
    player: Cell
    """Where the player stands."""
    goal: Cell
    """Where the player should go."""

    @property
    def solved(self) -> bool:
        """Whether the player stands on the goal."""
        return self.player == self.goal

    @property
    def floor(self) -> frozenset[Cell]:
        """Every cell that can be entered."""
        return open_cells(self.rows, self.columns, self.walls)


@dataclass(frozen=True)
class Walk:
    """What became of a sequence of moves."""

    grid: PathGrid
    """The grid afterwards."""
    moves: int
    """Moves that were tried; those after the goal are not."""
    blocked: int
    """Moves that ran against a wall or the border and changed nothing."""


def walk(grid: PathGrid, moves: str) -> Walk:
    """Make moves one by one until the goal is reached."""
    tried = blocked = 0
    floor = grid.floor
    for move in moves:
        if grid.solved:
            break
        tried += 1
        onward = neighbour(grid.player, move)
        if onward in floor:
            grid = replace(grid, player=onward)
        else:
            blocked += 1
    return Walk(grid, tried, blocked)


def shortest_path(grid: PathGrid) -> str | None:
    """Return a shortest sequence of moves to the goal; ``None`` where it cannot be reached."""
    return paths(grid.player, grid.floor).get(grid.goal)


def draw(grid: PathGrid) -> str:
    """Draw a grid as text, a line for each row."""
    return "\n".join(
        "".join(_symbol(grid, (row, column)) for column in range(grid.columns)) for row in range(grid.rows)
    )


def read(text: str) -> PathGrid:
    """Read a drawn grid.

    Raises:
        ReasonEnvsError: it has other characters, no player or goal, several, or a goal out of reach.
    """
    lines = grid_lines(text)
    cells = {(row, column): symbol for row, line in enumerate(lines) for column, symbol in enumerate(line)}
    players = [cell for cell, symbol in cells.items() if symbol in (PLAYER, BOTH)]
    goals = [cell for cell, symbol in cells.items() if symbol in (GOAL, BOTH)]
    if len(players) != 1 or len(goals) != 1 or not set(cells.values()) <= {WALL, FLOOR, PLAYER, GOAL, BOTH}:
        raise ReasonEnvsError(
            f"A grid of {WALL} {FLOOR} has one {PLAYER} and one {GOAL} (or {BOTH}); this has not:\n{text}"
        )
    walls = frozenset(cell for cell, symbol in cells.items() if symbol == WALL)
    grid = PathGrid(len(lines), len(lines[0]), walls, players[0], goals[0])
    if shortest_path(grid) is None:
        raise ReasonEnvsError(f"The goal cannot be reached, so that nothing can be learnt here:\n{text}")
    return grid


def _symbol(grid: PathGrid, cell: Cell) -> str:
    if cell in (grid.player, grid.goal):
        return BOTH if grid.solved else PLAYER if cell == grid.player else GOAL
    return WALL if cell in grid.walls else FLOOR
