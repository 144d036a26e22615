"""Plain data about an episode besides its dialogue: one schema for files, report pages and trackers.

Every part is optional. `Environment.view` returns the parts that an environment has.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CELLS = "#.PG*BXcrw"
"""Letters in ``GridView.cells``: wall, floor, player, goal, player on a goal, box, box on a goal; in grids of digits a
clue, a right digit and a wrong one."""


@dataclass(slots=True)
class NodeView:
    """One step of a tree. The root is the problem."""

    parent: int
    """Index of the parent node; -1 for the root."""
    text: str
    """Text of the step without its separator."""
    score: float
    """Score of the step reward model: probability that the step is right, from 0 to 1."""
    value: float
    """Aggregated scores of the path from the root to this node."""
    log_prob: float
    """Mean log-probability of the tokens, in nats; 0 if the engine returns none."""
    tokens: int
    """Number of tokens generated for the step, those of merged duplicates included."""
    terminal: bool
    """Whether no step may follow."""


@dataclass(frozen=True)
class TreeView:
    """A search tree and the walk through it."""

    nodes: list[NodeView]
    """All nodes in the order of their creation; parents come before their children."""
    current: int
    """Index of the node where the walk ended. The chosen path leads to it."""
    visit_history: list[tuple[int, int]]
    """Index of the current node and number of nodes after each action."""


@dataclass(frozen=True)
class CallView:
    """A call of a frozen model or of an operator."""

    name: str
    """Name of the model or operator."""
    inputs: Mapping[str, Any]
    """Inputs of the call by name."""
    outputs: Mapping[str, Any]
    """Outputs of the call by name."""


@dataclass(frozen=True)
class GridView:
    """A grid of cells."""

    cells: list[str]
    """Rows of letters. Each letter selects the drawing of a cell (see ``CELLS``)."""
    texts: list[str] | None = None
    """Rows of characters to write into the cells; ``None``: no characters."""
    box: tuple[int, int] | None = None
    """Number of rows and columns between thick lines; ``None``: no thick lines."""


@dataclass(frozen=True)
class TurnView:
    """Result of one decision."""

    outcome: str = ""
    """Description of the result in one line; empty: no description."""
    grid: GridView | None = None
    """Grid after the decision; ``None`` if it did not change."""


@dataclass(frozen=True)
class EpisodeView:
    """Data about an episode besides its dialogue."""

    tree: TreeView | None = None
    """Search tree; ``None`` if there is none."""
    grid: GridView | None = None
    """Grid before the first decision; ``None`` if there is none."""
    turns: list[TurnView] = field(default_factory=list)
    """Result of each decision, in order."""
    program: str = ""
    """Program that was run; empty if it was the response itself."""
    calls: list[CallView] = field(default_factory=list)
    """Calls of frozen models and operators, in order."""
