"""Sokoban: push boxes onto goals. Levels are drawn in the usual notation."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.games.moves import MOVES, Cell, Walk, grid_lines, neighbour, open_cells, paths
from reason_envs.tasks.games.moves import walk as walk_with

SYMBOLS = "#@+$*. "
"""Wall, player, player on a goal, box, box on a goal, goal, floor."""
WALL, PLAYER, PLAYER_ON_GOAL, BOX, BOX_ON_GOAL, GOAL, FLOOR = tuple(SYMBOLS)
MAXIMUM_BOXES = 12
"""Maximum number of boxes; every box doubles the time to match boxes with goals."""
_BACK = {"U": "D", "D": "U", "L": "R", "R": "L"}


@dataclass(frozen=True)
class SokobanLevel:
    """State of a level."""

    rows: int
    """Number of rows."""
    columns: int
    """Number of columns."""
    walls: frozenset[Cell]
    """Cells that nothing can enter."""
    goals: frozenset[Cell]
    """Cells that the boxes must reach."""
    boxes: frozenset[Cell]
    """Positions of the boxes."""
    player: Cell
    """Position of the player."""

    @property
    def solved(self) -> bool:
        """Whether every box stands on a goal."""
        return self.boxes <= self.goals

    @property
    def on_goal(self) -> int:
        """Number of boxes on goals."""
        return len(self.boxes & self.goals)

    @property
    def floor(self) -> frozenset[Cell]:
        """Every cell that is not a wall."""
        return open_cells(self.rows, self.columns, self.walls)


def walk(level: SokobanLevel, moves: str) -> Walk[SokobanLevel]:
    """Make moves one by one until the level is solved."""
    return walk_with(level, moves, step)


def step(level: SokobanLevel, move: str) -> SokobanLevel | None:
    """Return the level after one move, or ``None`` if a wall or a box that cannot be pushed is in the way."""
    to = neighbour(level.player, move)
    beyond = neighbour(to, move)
    floor = level.floor
    if to not in floor:
        return None
    if to not in level.boxes:
        return replace(level, player=to)
    if beyond not in floor or beyond in level.boxes:
        return None
    return replace(level, player=to, boxes=level.boxes - {to} | {beyond})


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


def solve(level: SokobanLevel) -> str | None:
    """Return moves that solve a small level with the minimum number of pushes, or ``None`` if there are none."""
    start = (level.boxes, _corner(level))
    seen, queue = {start}, deque([(level, "")])
    while queue:
        level, moves = queue.popleft()
        if level.solved:
            return moves
        for after, more in pushes(level):
            key = (after.boxes, _corner(after))
            if key not in seen and not deadlocked(after):
                seen.add(key)
                queue.append((after, moves + more))
    return None


def pushes(level: SokobanLevel) -> Iterable[tuple[SokobanLevel, str]]:
    """Yield the level after each possible next push, with the moves that lead to it."""
    reached = paths(level.player, level.floor - level.boxes)
    for box in sorted(level.boxes):
        for move in MOVES:
            behind = neighbour(box, _BACK[move])
            if behind in reached and (after := step(replace(level, player=behind), move)):
                yield after, reached[behind] + move


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


def draw(level: SokobanLevel) -> str:
    """Draw a level as text, one line per row."""
    rows = range(level.rows)
    return "\n".join("".join(_symbol(level, (row, column)) for column in range(level.columns)) for row in rows)


def read(text: str) -> SokobanLevel:
    """Read a drawn level.

    Raises:
        ReasonEnvsError: the level has other characters, not exactly one player, more boxes than goals, or too many
            boxes.
    """
    lines = grid_lines(text)
    cells = {(row, column): symbol for row, line in enumerate(lines) for column, symbol in enumerate(line)}

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
    return SokobanLevel(len(lines), len(lines[0]), all_of(WALL), goals, boxes, player)


@lru_cache(maxsize=4096)
def dead_cells(floor: frozenset[Cell], goals: frozenset[Cell]) -> frozenset[Cell]:
    """Return the floor cells from which a single box cannot be pushed onto any goal."""
    alive, queue = set(goals), deque(goals)
    while queue:
        cell = queue.popleft()
        for move in MOVES:  # a player two cells behind pushes a box from the cell behind to this cell
            behind = neighbour(cell, _BACK[move])
            if {behind, neighbour(behind, _BACK[move])} <= floor and behind not in alive:
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


def _corner(level: SokobanLevel) -> Cell:
    return min(paths(level.player, level.floor - level.boxes))


def _symbol(level: SokobanLevel, cell: Cell) -> str:
    if cell in level.walls:
        return WALL
    goal = cell in level.goals
    if cell == level.player:
        return PLAYER_ON_GOAL if goal else PLAYER
    if cell in level.boxes:
        return BOX_ON_GOAL if goal else BOX
    return GOAL if goal else FLOOR
