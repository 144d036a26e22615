"""Sokoban: push boxes onto goals. Levels are drawn in the usual notation."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.games.moves import MOVES, Cell, Level, neighbour, paths, read_grid

SYMBOLS = "#@+$*. "
"""Wall, player, player on a goal, box, box on a goal, goal, floor."""
WALL, PLAYER, PLAYER_ON_GOAL, BOX, BOX_ON_GOAL, GOAL, FLOOR = tuple(SYMBOLS)
MAXIMUM_BOXES = 12
"""Maximum number of boxes; every box doubles the time to match boxes with goals."""
BACK = {"U": "D", "D": "U", "L": "R", "R": "L"}
"""Opposite of each move."""


@dataclass(frozen=True)
class SokobanLevel(Level):
    """State of a level."""

    goals: frozenset[Cell]
    """Cells that the boxes must reach."""
    boxes: frozenset[Cell]
    """Positions of the boxes."""

    @property
    def solved(self) -> bool:
        """Whether every box stands on a goal."""
        return self.boxes <= self.goals

    @property
    def on_goal(self) -> int:
        """Number of boxes on goals."""
        return len(self.boxes & self.goals)

    def step(self, move: str) -> Self | None:
        """Return the level after one move, or ``None`` if a wall or a box that cannot be pushed is in the way."""
        to = neighbour(self.player, move)
        beyond = neighbour(to, move)
        floor = self.floor
        if to not in floor:
            return None
        if to not in self.boxes:
            return replace(self, player=to)
        if beyond not in floor or beyond in self.boxes:
            return None
        return replace(self, player=to, boxes=self.boxes - {to} | {beyond})

    def symbol(self, cell: Cell) -> str:
        """Return the character of a cell."""
        if cell in self.walls:
            return WALL
        goal = cell in self.goals
        if cell == self.player:
            return PLAYER_ON_GOAL if goal else PLAYER
        if cell in self.boxes:
            return BOX_ON_GOAL if goal else BOX
        return GOAL if goal else FLOOR


def deadlocked(level: SokobanLevel) -> bool:
    """Return whether some box can certainly never reach a goal.

    Such a box stands on a dead cell, or in a square of four walls and boxes. Deadlocks of boxes that are further apart
    are not detected.
    """
    astray = level.boxes - level.goals
    return bool(astray & dead_cells(level.floor, level.goals)) or any(_stuck(level, box) for box in astray)


def distance(level: SokobanLevel) -> int:
    """Return the minimum sum of distances in rows and columns between boxes and distinct goals."""
    return _matching(tuple(sorted(level.boxes)), level.goals)


def pulls(level: SokobanLevel) -> Iterable[SokobanLevel]:
    """Yield each level from which one push leads to this one: a player walks next to a box and pulls it."""
    free = level.floor - level.boxes
    reached = paths(level.player, free)
    for box in sorted(level.boxes):
        for move in MOVES:
            beside = neighbour(box, move)
            onward = neighbour(beside, move)
            if beside in reached and onward in free:
                yield replace(level, player=onward, boxes=level.boxes - {box} | {beside})


def read(text: str) -> SokobanLevel:
    """Read a drawn level.

    Raises:
        ReasonEnvsError: the level has other characters, not exactly one player, more boxes than goals, or too many
            boxes.
    """
    rows, columns, cells = read_grid(text)

    def all_of(symbols: str) -> frozenset[Cell]:
        return frozenset(cell for cell, symbol in cells.items() if symbol in symbols)

    players, boxes, goals = all_of("@+"), all_of("$*"), all_of(".+*")
    if len(players) != 1 or len(boxes) > len(goals) or not set(cells.values()) <= set(SYMBOLS):
        raise ReasonEnvsError(
            f"A level must consist of the characters {SYMBOLS!r}, with one player and a goal for each box. It has "
            f"{len(players)} players, {len(boxes)} boxes and {len(goals)} goals:\n{text}"
        )
    if len(boxes) > MAXIMUM_BOXES:
        raise ReasonEnvsError(f"A level can have at most {MAXIMUM_BOXES} boxes. This level has {len(boxes)}:\n{text}")
    (player,) = players
    return SokobanLevel(rows, columns, all_of(WALL), player, goals, boxes)


@lru_cache(maxsize=4096)
def dead_cells(floor: frozenset[Cell], goals: frozenset[Cell]) -> frozenset[Cell]:
    """Return the floor cells from which a single box cannot be pushed onto any goal."""
    alive, queue = set(goals), deque(goals)
    while queue:
        cell = queue.popleft()
        for move in MOVES:  # a player two cells behind pushes a box from the cell behind to this cell
            behind = neighbour(cell, BACK[move])
            if {behind, neighbour(behind, BACK[move])} <= floor and behind not in alive:
                alive.add(behind)
                queue.append(behind)
    return floor - alive


@lru_cache(maxsize=65_536)
def _matching(boxes: tuple[Cell, ...], goals: frozenset[Cell]) -> int:
    if not boxes:
        return 0
    (row, column), *others = boxes
    return min(abs(row - goal[0]) + abs(column - goal[1]) + _matching(tuple(others), goals - {goal}) for goal in goals)


def _stuck(level: SokobanLevel, box: Cell) -> bool:
    """Return whether a box is part of a square of four walls and boxes."""
    blocked = level.walls | level.boxes
    row, column = box
    squares = [{(row + i, column + j) for i in (0, a) for j in (0, b)} for a in (-1, 1) for b in (-1, 1)]
    return any(square <= blocked for square in squares)
