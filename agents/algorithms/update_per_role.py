"""Updates of several policies, one a role, that have nothing to do with each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from torch import Tensor

from agents.algorithms.optimizer import Optimizer
from agents.algorithms.sample import Sample
from agents.algorithms.update import PolicyUpdate
from agents.policies.roles import by_agent
from agents.trajectory import Decision
from reason_envs.core import AgentId

COMBINED: dict[str, Callable[[list[float]], float]] = {"loss_tokens": sum, "ratio_max": max, "sampler_max_ratio": max}
"""How a figure of all roles is made of each one's, where it is not their mean."""


class RoleOptimizer:
    """The optimizers of all roles: gradients are clipped, and steps counted, for each role alone.

    Args:
        optimizers: by role.
    """

    def __init__(self, optimizers: Mapping[AgentId, Optimizer]) -> None:
        self._optimizers = optimizers

    @property
    def steps(self) -> int:
        """Optimizer steps of all roles together."""
        return sum(optimizer.steps for optimizer in self._optimizers.values())

    @property
    def training_step(self) -> int:
        """The training step under way."""
        return next(iter(self._optimizers.values())).training_step

    @training_step.setter
    def training_step(self, step: int) -> None:
        for optimizer in self._optimizers.values():
            optimizer.training_step = step

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed run needs, by role."""
        return {role: optimizer.state_dict() for role, optimizer in self._optimizers.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        for role, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state[role])


class RoleUpdate:
    """Updates each role on its own decisions: its weights come out as if no other role had been trained.

    Args:
        updates: by role.
    """

    def __init__(self, updates: Mapping[AgentId, PolicyUpdate]) -> None:
        self._updates = updates

    def evaluate(
        self, decisions: Sequence[Decision], micro_batch_size: int | None = None
    ) -> list[tuple[Tensor, Tensor | None]]:
        """Log-probabilities of every decision's tokens under its role's current weights, and the values: [T] each."""
        places = by_agent(decisions, self._updates)
        found = {
            role: self._updates[role].evaluate([decisions[i] for i in mine], micro_batch_size)
            for role, mine in places.items()
        }
        rows = {i: row for role, mine in places.items() for i, row in zip(mine, found[role], strict=True)}
        return [rows[i] for i in range(len(decisions))]

    def run(self, samples: Sequence[Sample], step: int) -> dict[str, float]:
        """Take every optimizer step of a training step; metrics are each role's (``loss/<role>``) and all roles'."""
        places = by_agent([sample.decision for sample in samples], self._updates)
        mine = {role: [samples[i] for i in places.get(role, ())] for role in self._updates}
        found = {role: update.run(mine[role], step) for role, update in self._updates.items()}
        names = dict.fromkeys(name for metrics in found.values() for name in metrics)
        values = {name: [metrics[name] for metrics in found.values() if name in metrics] for name in names}
        combined = {name: float(COMBINED.get(name, fmean)(values[name])) for name in names}
        return combined | {f"{n}/{role}": value for role, metrics in found.items() for n, value in metrics.items()}
