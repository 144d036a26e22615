"""Grid games: a tool user's program is tried on a copy, then a planner's plan is carried out."""

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

from reason_envs.envs.petting.base import Petting
from reason_envs.envs.petting.state import DecisionResult
from reason_envs.tasks.games.moves import read_moves

TOOL, PLANNER = "tool", "planner"


class GridGame(Petting):
    """The tool user's program prints a plan, which is tried on a copy and shown; the planner's plan is carried out.

    The planner earns the change of the game's value minus the cost of its moves. The tool user earns, as its local
    reward, the value that its plan would reach minus the same cost. A program that fails costs ``bad_format``.
    """

    roles = (TOOL, PLANNER)
    count_names = ("illegal_moves",)
    max_moves: ClassVar[int]
    """Maximum number of moves of a plan; a longer plan is unreadable."""

    @abstractmethod
    def play(self, game: Any, plan: Any) -> DecisionResult | None:
        """Return the result of a planner's plan; ``None`` if the rules forbid the whole plan. The game stays the same.

        ``local`` is the negative cost of the plan, and ``counts`` has the ``illegal_moves``.
        """

    def read_plan(self, text: str) -> Any:
        """Read a plan from text; ``None`` if there is none. By default a plan is at most ``max_moves`` moves."""
        return read_moves(text, self.max_moves)

    def show_plan(self, plan: Any) -> str:
        """Return a plan as one line of text; by default the moves."""
        return plan

    def tool_preamble(self, game: Any) -> str:
        """Return the Python code that defines ``grid`` for a tool user's program; by default a list of strings."""
        return f"grid = {self.board(game).splitlines()!r}"

    def baseline_contribution(self, game: Any) -> dict[str, float]:
        """Return the current value of the game for the tool user."""
        return {TOOL: self.value(game)}

    async def act(self, role: str, text: str) -> DecisionResult:
        """Try the plan of a tool user's program, or carry out the planner's plan."""
        game = self.state.game
        if role == TOOL:
            printed = await self.printed(text, self.tool_preamble(game))
            if isinstance(printed, DecisionResult):
                return printed
            text = printed
        plan = self.read_plan(text)
        if plan is None:
            return self.unreadable("no plan printed" if role == TOOL else "unreadable")
        played = self.play(game, plan)
        if played is None:
            return self.failed("against the rules", "illegal_moves")
        if role == PLANNER:
            return played
        outcome = f"{self.show_plan(plan)} {played.outcome}"
        return replace(played, game=game, outcome=outcome, contribution_value=self.value(played.game))
