"""PettingPlanPath-v0: a tool user and a planner find the way over a grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from reason_envs.envs.petting.config import PettingConfig, check_not_negative
from reason_envs.envs.petting.grid import PLANNER, TOOL, GridGame, Played
from reason_envs.tasks import Task
from reason_envs.tasks.games import plan_path_rules as rules
from reason_envs.tasks.games.moves import read_moves
from reason_envs.views import GridView

MOST_MOVES = 100
"""Longest plan; a longer one cannot be read."""


@dataclass
class PettingPlanPathConfig(PettingConfig):
    """Options of PettingPlanPath-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "plan_path"})
    """The problems: a family's name, a mapping of its ``name`` and options, or a ``TaskSet``."""
    step: float = 0.01
    """Cost of a move."""
    invalid: float = 0.1
    """Cost of a move against a wall or the border."""
    goal: float = 1.0
    """Paid for reaching the goal."""
    shortest: float = 0.5
    """Paid on top where all moves of the episode are a shortest path."""
    fail: float = 1.0
    """Subtracted where the last turn ends elsewhere."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(self, "step", "invalid", "goal", "shortest", "fail")


@dataclass(frozen=True)
class PathGame:
    """A grid and how the player came there."""

    grid: rules.PathGrid
    """The grid as it stands."""
    distance: int
    """Fewest moves from where the episode began."""
    moves: int = 0
    """Moves made."""


class PettingPlanPath(GridGame):
    """Roles ``tool`` and ``planner`` lead P to G; a plan is a line of moves U, D, L and R.

    Value: the share of the distance that is done, which is negative further away, and at the goal ``goal`` and
    ``shortest`` (the oracle is a breadth-first search). It is not discounted: with the source's 0.99 standing still
    would pay.
    """

    prompts: ClassVar = {
        TOOL: "Write Python that prints moves U, D, L, R from P to G. `grid` is a list of strings; # is a wall.",
        PLANNER: r"Lead P to G past the walls #. Answer with moves U, D, L, R in a box, such as \boxed{RRD}.",
    }
    colours: ClassVar = {
        rules.WALL: "#3d4752",
        rules.FLOOR: "#f4f1ea",
        rules.PLAYER: "#4c8dd6",
        rules.GOAL: "#f2c14e",
        rules.BOTH: "#5fb37a",
    }
    config: PettingPlanPathConfig

    def __init__(self, config: PettingPlanPathConfig | None = None) -> None:
        super().__init__(config or PettingPlanPathConfig())

    def begin(self, task: Task) -> PathGame:
        """Read the drawn grid."""
        grid = rules.read(task.question)
        return PathGame(grid, len(rules.shortest_path(grid) or ""))

    def board(self, game: PathGame) -> str:
        """Draw the grid."""
        return rules.draw(game.grid)

    def picture(self, game: PathGame) -> GridView:
        """Draw the grid: its letters are those of pictures."""
        return GridView(self.board(game).splitlines())

    def progress(self, game: PathGame) -> float:
        """Return the share of the distance that is done."""
        if game.grid.solved:
            return 1.0
        return 1 - len(rules.shortest_path(game.grid) or "") / game.distance

    def value(self, game: PathGame) -> float:
        """Return the progress and what the goal pays."""
        if not game.grid.solved:
            return self.progress(game)
        return 1 + self.config.goal + self.config.shortest * (game.moves == game.distance)

    def solved(self, game: PathGame) -> bool:
        """Whether the goal is reached."""
        return game.grid.solved

    def loss(self) -> float:
        """Return what missing the goal costs."""
        return self.config.fail

    def read_plan(self, text: str) -> str | None:
        """Read moves."""
        return read_moves(text, MOST_MOVES)

    def show_plan(self, plan: str) -> str:
        """Write the moves."""
        return plan

    def play(self, game: PathGame, plan: str) -> Played:
        """Walk."""
        walk = rules.walk(game.grid, plan)
        outcome = "goal" if walk.state.solved else "no goal"
        cost = self.config.step * walk.moves + self.config.invalid * walk.blocked
        after = PathGame(walk.state, game.distance, game.moves + walk.moves)
        return Played(after, f"{outcome}, {walk.blocked} blocked" if walk.blocked else outcome, cost, walk.blocked)

    def given(self, game: PathGame) -> str:
        """Give the drawn grid as a list of strings."""
        return f"grid = {self.board(game).splitlines()!r}"
