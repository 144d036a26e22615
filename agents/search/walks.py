"""Policies without parameters that walk the environment itself: what any trained one must beat."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from agents.trajectory import Choice
from reason_envs.core import Action, AgentId, Environment, derive_seed

ORDER = ("EXPAND", "TERMINATE", "BRANCH")
"""What `AlwaysExpand` tries first; after these it goes back."""


class WalkPolicy(ABC):
    """Chooses by name among the actions that an observation's ``action_mask`` allows."""

    def observe(self, environment: Any, observation: Any) -> list[str]:
        """Read the names of the legal actions; an illegal one's is empty."""
        pairs = zip(environment.action_names, observation["action_mask"], strict=True)
        return [name if legal else "" for name, legal in pairs]

    async def act(
        self, observations: Sequence[list[str]], seeds: Sequence[int], *, agents: Sequence[AgentId] = ()
    ) -> list[Choice]:
        """Choose a legal action for each observation."""
        return [_choice(self.choose(names, seed)) for names, seed in zip(observations, seeds, strict=True)]

    def fits(self, observation: list[str]) -> bool:
        """Every observation does."""
        return True

    def action(self, environment: Environment, choice: Choice) -> Action:
        """Return the number of the chosen action."""
        return choice.token_ids[0]

    @abstractmethod
    def choose(self, names: list[str], seed: int) -> int:
        """Return the number of an action whose name is not empty."""


class RandomLegal(WalkPolicy):
    """Every legal action alike."""

    def choose(self, names: list[str], seed: int) -> int:
        """Return the legal action that belongs to the seed."""
        legal = [number for number, name in enumerate(names) if name]
        return legal[derive_seed(seed, "action") % len(legal)]


class AlwaysExpand(WalkPolicy):
    """EXPAND until a step ends the path, then TERMINATE; where neither is legal BRANCH, else go back."""

    def choose(self, names: list[str], seed: int) -> int:
        """Return the first legal action of that order."""
        wanted = next((name for name in ORDER if name in names), None)
        return names.index(next(filter(None, names)) if wanted is None else wanted)


def _choice(action: int) -> Choice:
    return Choice([action], None, None, finish_reason="stop", policy_version=0, prompt_ids=[], text=str(action))
