"""Solver of small Sokoban levels."""

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from reason_envs.tasks.games.moves import MOVES, Cell, neighbour, paths
from reason_envs.tasks.games.sokoban_rules import BACK, SokobanLevel, deadlocked


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
            behind = neighbour(box, BACK[move])
            if behind in reached and (after := replace(level, player=behind).step(move)):
                yield after, reached[behind] + move


def _corner(level: SokobanLevel) -> Cell:
    return min(paths(level.player, level.floor - level.boxes))
