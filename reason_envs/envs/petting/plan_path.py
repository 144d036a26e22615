"""PettingPlanPath-v0: a tool user and a planner find a path through a grid."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from reason_envs.envs.petting.base import GAMES
from reason_envs.envs.petting.config import PettingConfig
from reason_envs.envs.petting.grid import GridGame
from reason_envs.envs.petting.state import DecisionResult
from reason_envs.tasks import Task
from reason_envs.tasks.games import plan_path_rules as rules
from reason_envs.views import GridView


@dataclass
class PettingPlanPathConfig(PettingConfig):
    """Options of PettingPlanPath-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "plan_path"})
    step: float = 0.01
    """Cost of a move, subtracted from the role's reward."""
    invalid: float = 0.1
    """Additional cost of a move against a wall or the border."""
    goal: float = 1.0
    """Reward for reaching the goal."""
    shortest: float = 0.5
    """Additional reward if the moves of the episode are a shortest path."""
    fail: float = 1.0
    """Penalty if the last turn does not end at the goal."""


@dataclass(frozen=True)
class PathGame:
    """A grid and the moves so far."""

    grid: rules.PathGrid
    """Grid with the current position of the player."""
    distance: int
    """Minimum number of moves from the start of the episode to the goal."""
    moves: int = 0
    """Number of moves so far."""


class PettingPlanPath(GridGame):
    """Roles ``tool`` and ``planner`` lead P to G; a plan is a line of moves U, D, L and R.

    The value is the completed share of the distance, which is negative further away than the start. At the goal, it
    also includes ``goal`` and, after a shortest path (found by breadth-first search), ``shortest``. The value is not
    discounted: with the source's factor of 0.99, standing still would earn a reward.
    """

    prompts: ClassVar = GAMES["plan_path"]["prompts"]
    colours: ClassVar = GAMES["plan_path"]["colours"]
    max_moves = 100
    config_class = PettingPlanPathConfig
    config: PettingPlanPathConfig

    def new_game(self, task: Task) -> PathGame:
        """Read the grid from the problem."""
        grid = rules.read(task.question)
        return PathGame(grid, len(rules.shortest_path(grid) or ""))

    def board(self, game: PathGame) -> str:
        """Return the drawn grid."""
        return game.grid.draw()

    def picture(self, game: PathGame) -> GridView:
        """Return the grid; its letters are those of pictures."""
        return GridView(self.board(game).splitlines())

    def progress(self, game: PathGame) -> float:
        """Return the completed share of the distance."""
        if game.grid.solved:
            return 1.0
        return 1 - len(rules.shortest_path(game.grid) or "") / game.distance

    def value(self, game: PathGame) -> float:
        """Return the progress, plus the rewards of the goal."""
        if not game.grid.solved:
            return self.progress(game)
        return 1 + self.config.goal + self.config.shortest * (game.moves == game.distance)

    def failure_penalty(self) -> float:
        """Return the penalty of missing the goal."""
        return self.config.fail

    def play(self, game: PathGame, plan: str) -> DecisionResult:
        """Walk along the moves."""
        walk = game.grid.walk(plan)
        outcome = "goal" if walk.state.solved else "no goal"
        cost = self.config.step * walk.moves + self.config.invalid * walk.blocked
        after = PathGame(walk.state, game.distance, game.moves + walk.moves)
        outcome += f", {walk.blocked} blocked" if walk.blocked else ""
        return DecisionResult(after, outcome, -cost, counts={"illegal_moves": walk.blocked})
