"""PettingSokoban-v0: a tool user and a planner push boxes onto goals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from reason_envs.envs.petting.config import PettingConfig, check_not_negative
from reason_envs.envs.petting.grid import PLANNER, TOOL, GridGame, Played
from reason_envs.tasks import Task
from reason_envs.tasks.games import sokoban_rules as rules
from reason_envs.tasks.games.moves import read_moves
from reason_envs.views import GridView

MOST_MOVES = 200
"""Longest plan; a longer one cannot be read."""
PICTURED = str.maketrans(rules.SYMBOLS, "#P*BXG.")
"""The notation's symbols as letters of pictures."""


@dataclass
class PettingSokobanConfig(PettingConfig):
    """Options of PettingSokoban-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "sokoban"})
    """The problems: a family's name, a mapping of its ``name`` and options, or a ``TaskSet``."""
    step: float = 0.01
    """Cost of a move."""
    invalid: float = 0.05
    """Cost of a move that changes nothing."""
    on_goal: float = 1.0
    """Value of a box on a goal."""
    shaping: float = 0.1
    """Subtracted for each cell between the boxes and their goals."""
    win: float = 10.0
    """Paid for a solved level."""
    fail: float = 5.0
    """Subtracted where the last turn ends unsolved."""
    deadlock: float = 1.0
    """Subtracted where a plan makes a level that cannot be solved any more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(self, "step", "invalid", "on_goal", "shaping", "win", "fail", "deadlock")


class PettingSokoban(GridGame):
    """Roles ``tool`` and ``planner`` push every box ``$`` onto a goal ``.``; a plan is a line of moves U, D, L and R.

    Value: ``on_goal`` for each box on a goal, less ``shaping`` for the distance of the others, and ``win``. A box that
    leaves a goal loses what it earned there (the source pays half of it back, so that going back and forth earns).
    ``deadlock`` is a local reward; its test is sound and not complete.
    """

    prompts: ClassVar = {
        TOOL: "Write Python that prints moves U, D, L, R of @ that push each $ onto a goal. `grid` is a list of "
        "strings; # wall, . goal, * box on goal, + you on goal.",
        PLANNER: "Push each $ onto a goal: @ you, # wall, . goal, * box on goal, + you on goal. Answer with moves U, "
        r"D, L, R in a box, such as \boxed{RRD}.",
    }
    colours: ClassVar = {
        rules.WALL: "#3d4752",
        rules.FLOOR: "#f4f1ea",
        rules.PLAYER: "#4c8dd6",
        rules.PLAYER_ON_GOAL: "#7fb2e8",
        rules.BOX: "#c58a4a",
        rules.BOX_ON_GOAL: "#5fb37a",
        rules.GOAL: "#f2c14e",
    }
    config: PettingSokobanConfig

    def __init__(self, config: PettingSokobanConfig | None = None) -> None:
        super().__init__(config or PettingSokobanConfig())

    def begin(self, task: Task) -> rules.SokobanLevel:
        """Read the drawn level."""
        return rules.read(task.question)

    def board(self, game: rules.SokobanLevel) -> str:
        """Draw the level."""
        return rules.draw(game)

    def picture(self, game: rules.SokobanLevel) -> GridView:
        """Draw the level."""
        return GridView(self.board(game).translate(PICTURED).splitlines())

    def progress(self, game: rules.SokobanLevel) -> float:
        """Return the share of the boxes that are on goals."""
        boxes = len(game.boxes)
        return game.on_goal / boxes if boxes else 1.0

    def value(self, game: rules.SokobanLevel) -> float:
        """Return what the boxes and the solved level are worth."""
        config = self.config
        boxes = config.on_goal * game.on_goal - config.shaping * rules.distance(game)
        return boxes + config.win * game.solved

    def solved(self, game: rules.SokobanLevel) -> bool:
        """Whether every box is on a goal."""
        return game.solved

    def loss(self) -> float:
        """Return what an unsolved level costs."""
        return self.config.fail

    def read_plan(self, text: str) -> str | None:
        """Read moves."""
        return read_moves(text, MOST_MOVES)

    def show_plan(self, plan: str) -> str:
        """Write the moves."""
        return plan

    def play(self, game: rules.SokobanLevel, plan: str) -> Played:
        """Push."""
        walk = rules.walk(game, plan)
        stuck = rules.deadlocked(walk.state) and not rules.deadlocked(game)
        cost = self.config.step * walk.moves + self.config.invalid * walk.blocked + self.config.deadlock * stuck
        outcome = "solved" if walk.state.solved else f"{walk.state.on_goal}/{len(walk.state.boxes)} on goals"
        outcome += f", {walk.blocked} blocked" if walk.blocked else ""
        return Played(walk.state, outcome, cost, walk.blocked)

    def given(self, game: rules.SokobanLevel) -> str:
        """Give the drawn level as a list of strings."""
        return f"grid = {self.board(game).splitlines()!r}"
