"""Policies without parameters for search-tree environments: baselines for trained policies."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from agents.policies.base import Policy
from agents.trajectory import Choice
from reason_envs.core import Action, AgentId, Environment, derive_seed
from reason_envs.llm.engine import Sampling

ORDER = ("EXPAND", "TERMINATE", "BRANCH")
"""Order in which `AlwaysExpand` tries actions. If none is legal, it takes the first legal action."""


class WalkPolicy(Policy):
    """Policy that chooses among the actions that the ``action_mask`` of an observation allows, by their names."""

    def observe(self, environment: Any, observation: Any) -> list[str]:
        """Return the names of all actions. The names of illegal actions are empty."""
        pairs = zip(environment.action_names, observation["action_mask"], strict=True)
        return [name if legal else "" for name, legal in pairs]

    async def act(
        self,
        observations: Sequence[list[str]],
        seeds: Sequence[int],
        sampling: Sampling | None = None,
        *,
        agents: Sequence[AgentId] = (),
    ) -> list[Choice]:
        """Choose a legal action for each observation."""
        actions = [self.choose(names, seed) for names, seed in zip(observations, seeds, strict=True)]
        return [Choice([action], None, None, "stop", 0, [], text=str(action)) for action in actions]

    def action(self, environment: Environment, choice: Choice) -> Action:
        """Return the number of the chosen action."""
        return choice.token_ids[0]

    @abstractmethod
    def choose(self, names: list[str], seed: int) -> int:
        """Return the number of an action whose name is not empty."""


class RandomLegal(WalkPolicy):
    """Policy that draws a legal action uniformly at random."""

    def choose(self, names: list[str], seed: int) -> int:
        """Return a legal action drawn with the seed."""
        legal = [number for number, name in enumerate(names) if name]
        return legal[derive_seed(seed, "action") % len(legal)]


class AlwaysExpand(WalkPolicy):
    """Policy that takes EXPAND if it is legal, else TERMINATE, else BRANCH, else the first legal action."""

    def choose(self, names: list[str], seed: int) -> int:
        """Return the first legal action in the order of the class."""
        wanted = next((name for name in ORDER if name in names), None)
        return names.index(next(filter(None, names)) if wanted is None else wanted)
