"""Grid games: a tool user's program is simulated on a copy, then a planner commits."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from reason_envs.envs.petting.base import Petting
from reason_envs.envs.petting.state import Effect

TOOL, PLANNER = "tool", "planner"


@dataclass(frozen=True)
class Played:
    """What a plan does to a game."""

    game: Any
    """The game afterwards."""
    outcome: str
    """What came of it, in a line."""
    cost: float
    """What the role pays for the way."""
    illegal: int = 0
    """Moves that the rules forbid."""


class GridGame(Petting):
    """The tool user's program prints a plan, which is tried on a copy and shown; the planner's plan is committed.

    The planner is paid by the change of the game's value, less the cost of its moves. The tool user is paid by
    ``local`` for the value that its plan would reach, less the same cost; a program that fails costs ``bad_format``.
    """

    roles = (TOOL, PLANNER)
    count_names = ("illegal_moves",)

    @abstractmethod
    def read_plan(self, text: str) -> Any:
        """Read a plan; ``None`` where there is none."""

    @abstractmethod
    def show_plan(self, plan: Any) -> str:
        """Write a plan in a line."""

    @abstractmethod
    def play(self, game: Any, plan: Any) -> Played | None:
        """Return what a plan does to a game, which is not changed; ``None`` where the rules forbid it as a whole."""

    @abstractmethod
    def given(self, game: Any) -> str:
        """Write the lines of Python that define what a tool user's program may use."""

    def idle_worth(self, game: Any) -> dict[str, float]:
        """Let the tool user earn by what its plan adds to the state as it is."""
        return {TOOL: self.value(game)}

    async def act(self, role: str, text: str) -> Effect:
        """Simulate a program's plan, or commit the planner's."""
        return await self._simulate(text) if role == TOOL else self._commit(text)

    async def _simulate(self, text: str) -> Effect:
        game = self.state.game
        printed = await self.programs.print_of(text, self.given(game))
        if printed.trouble:
            return self.failed(printed.trouble, printed.count)
        plan = self.read_plan(printed.text)
        if plan is None:
            return self.unreadable("no plan printed")
        played = self.play(game, plan)
        if played is None:
            return self.failed("against the rules", "illegal_moves")
        outcome, counts = f"{self.show_plan(plan)} {played.outcome}", {"illegal_moves": played.illegal}
        return Effect(game, outcome, -played.cost, self.value(played.game), counts)

    def _commit(self, text: str) -> Effect:
        plan = self.read_plan(text)
        if plan is None:
            return self.unreadable()
        played = self.play(self.state.game, plan)
        if played is None:
            return self.failed("against the rules", "illegal_moves")
        return Effect(played.game, played.outcome, -played.cost, counts={"illegal_moves": played.illegal})
