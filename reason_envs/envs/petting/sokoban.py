"""PettingSokoban-v0: a tool user and a planner push boxes onto goals."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from reason_envs.envs.petting.base import GAMES
from reason_envs.envs.petting.config import PettingConfig
from reason_envs.envs.petting.grid import GridGame
from reason_envs.envs.petting.state import DecisionResult
from reason_envs.tasks import Task
from reason_envs.tasks.games import sokoban_rules as rules
from reason_envs.views import GridView

PICTURED = str.maketrans(rules.SYMBOLS, "#P*BXG.")
"""Translation of the symbols of a level to the letters of pictures."""


@dataclass
class PettingSokobanConfig(PettingConfig):
    """Options of PettingSokoban-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "sokoban"})
    step: float = 0.01
    """Cost of a move, subtracted from the role's reward."""
    invalid: float = 0.05
    """Additional cost of a move that changes nothing."""
    on_goal: float = 1.0
    """Value of each box on a goal."""
    shaping: float = 0.1
    """Penalty per cell of distance between the boxes and their goals."""
    win: float = 10.0
    """Reward for solving the level."""
    fail: float = 5.0
    """Penalty if the level is unsolved after the last turn."""
    deadlock: float = 1.0
    """Penalty of a plan that makes the level unsolvable."""


class PettingSokoban(GridGame):
    """Roles ``tool`` and ``planner`` push every box ``$`` onto a goal ``.``; a plan is a line of moves U, D, L and R.

    The value is ``on_goal`` for each box on a goal, minus ``shaping`` times the distance of the other boxes, plus
    ``win`` for a solved level. A box that leaves its goal loses the whole reward that it earned there. (In the source
    it loses half, so pushing a box back and forth earns a reward.) ``deadlock`` is part of the local reward; its test
    finds many unsolvable levels, but not all.
    """

    prompts: ClassVar = GAMES["sokoban"]["prompts"]
    colours: ClassVar = GAMES["sokoban"]["colours"]
    max_moves = 200
    config_class = PettingSokobanConfig
    config: PettingSokobanConfig

    def new_game(self, task: Task) -> rules.SokobanLevel:
        """Read the level from the problem."""
        return rules.read(task.question)

    def board(self, game: rules.SokobanLevel) -> str:
        """Return the drawn level."""
        return game.draw()

    def picture(self, game: rules.SokobanLevel) -> GridView:
        """Return the level as a picture."""
        return GridView(self.board(game).translate(PICTURED).splitlines())

    def progress(self, game: rules.SokobanLevel) -> float:
        """Return the share of the boxes on goals."""
        boxes = len(game.boxes)
        return game.on_goal / boxes if boxes else 1.0

    def value(self, game: rules.SokobanLevel) -> float:
        """Return the value of the boxes, plus ``win`` for a solved level."""
        config = self.config
        boxes = config.on_goal * game.on_goal - config.shaping * rules.distance(game)
        return boxes + config.win * game.solved

    def failure_penalty(self) -> float:
        """Return the penalty of an unsolved level."""
        return self.config.fail

    def play(self, game: rules.SokobanLevel, plan: str) -> DecisionResult:
        """Walk along the moves and push boxes."""
        walk = game.walk(plan)
        stuck = rules.deadlocked(walk.state) and not rules.deadlocked(game)
        cost = self.config.step * walk.moves + self.config.invalid * walk.blocked + self.config.deadlock * stuck
        outcome = "solved" if walk.state.solved else f"{walk.state.on_goal}/{len(walk.state.boxes)} on goals"
        outcome += f", {walk.blocked} blocked" if walk.blocked else ""
        return DecisionResult(walk.state, outcome, -cost, counts={"illegal_moves": walk.blocked})
