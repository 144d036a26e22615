"""What there is to see of an episode besides its dialogue, as plain data: one schema for files, pages and trackers.

An environment fills what it has (see ``Environment.view``); every part is optional.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CELLS = {
    "#": "wall",
    ".": "floor",
    "P": "player",
    "G": "goal",
    "*": "player on a goal",
    "B": "box",
    "X": "box on a goal",
    "c": "clue",
    "r": "right",
    "w": "wrong",
}
"""The letters that a grid's cells are drawn by."""


@dataclass(frozen=True)
class NodeView:
    """One step of a tree."""

    parent: int
    """Index of the parent; -1 for the root."""
    text: str
    """The step."""
    score: float
    """What the step reward model gave, from 0 to 1."""
    value: float
    """The scores from the root to here, aggregated."""
    log_prob: float
    """Mean log-probability of its tokens."""
    tokens: int
    """Tokens generated for it."""
    terminal: bool
    """Whether nothing may follow."""


@dataclass(frozen=True)
class TreeView:
    """A search tree, and how it was walked."""

    nodes: list[NodeView]
    """Every node in the order they were drawn; parents come before their children."""
    current: int
    """Index of the node where the walk ended: the chosen path leads there."""
    visit_history: list[tuple[int, int]]
    """Current node and number of nodes after each action."""


@dataclass(frozen=True)
class CallView:
    """A call of a frozen model or an operator."""

    name: str
    """Who was called."""
    inputs: Mapping[str, Any]
    """What it was given, by name."""
    outputs: Mapping[str, Any]
    """What it returned, by name."""


@dataclass(frozen=True)
class GridView:
    """A picture of cells."""

    cells: list[str]
    """Rows of letters (see ``CELLS``), which decide how a cell is drawn."""
    texts: list[str] | None = None
    """Rows of characters to write into the cells."""
    box: tuple[int, int] | None = None
    """Rows and columns between stronger lines."""


@dataclass(frozen=True)
class TurnView:
    """What came of one decision."""

    outcome: str = ""
    """In a line."""
    grid: GridView | None = None
    """The picture after it, where it changed."""


@dataclass(frozen=True)
class EpisodeView:
    """What there is to see of an episode."""

    tree: TreeView | None = None
    """The search tree."""
    grid: GridView | None = None
    """The picture before the first decision."""
    turns: list[TurnView] = field(default_factory=list)
    """What came of each decision, in order."""
    program: str = ""
    """The program that was run, where it is not the response itself."""
    calls: list[CallView] = field(default_factory=list)
    """Calls of frozen models and operators, in order."""
