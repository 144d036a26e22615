"""Updates of several policies, one per role, that are independent of each other."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from torch import Tensor

from agents.algorithms.sample import Sample
from agents.algorithms.update import PolicyUpdate
from agents.losses import MAXIMA
from agents.policies.roles import by_agent
from agents.trajectory import Decision
from reason_envs.core import AgentId

COMBINED: dict[str, Callable[[list[float]], float]] = {"loss_tokens": sum, **dict.fromkeys(MAXIMA, max)}
"""How a metric of all roles follows from the metrics of each role, where it is not their mean."""


class RoleUpdate:
    """Updates each role on its own decisions: its weights change as if no other role were trained.

    It holds the optimizers of all roles. Gradients are clipped for each role separately.
    """

    def __init__(self, updates: Mapping[AgentId, PolicyUpdate]) -> None:
        self._updates = updates
        self.optimizer = self  # checkpoints store its state

    @property
    def steps(self) -> int:
        """Number of optimizer steps of all roles together."""
        return sum(update.optimizer.steps for update in self._updates.values())

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each role's optimizer."""
        return {role: update.optimizer.state_dict() for role, update in self._updates.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of ``state_dict``."""
        for role, update in self._updates.items():
            update.optimizer.load_state_dict(state[role])

    def evaluate(
        self, decisions: Sequence[Decision], micro_batch_size: int | None = None
    ) -> list[tuple[Tensor, Tensor | None]]:
        """Evaluate each decision with its role's policy (see ``PolicyUpdate.evaluate``)."""
        rows: dict[int, tuple[Tensor, Tensor | None]] = {}
        for role, places in by_agent(decisions).items():
            evaluated = self._updates[role].evaluate([decisions[i] for i in places], micro_batch_size)
            rows |= dict(zip(places, evaluated, strict=True))
        return [rows[i] for i in range(len(decisions))]

    def run(self, samples: Sequence[Sample], step: int) -> dict[str, float]:
        """Take every optimizer step of a training step; return metrics of all roles and of each (``loss/<role>``)."""
        places = by_agent([sample.decision for sample in samples])
        mine = {role: [samples[i] for i in places.get(role, ())] for role in self._updates}
        found = {role: update.run(mine[role], step) for role, update in self._updates.items()}
        names = dict.fromkeys(name for metrics in found.values() for name in metrics)
        values = {name: [metrics[name] for metrics in found.values() if name in metrics] for name in names}
        combined = {name: float(COMBINED.get(name, fmean)(values[name])) for name in names}
        return combined | {f"{n}/{role}": value for role, metrics in found.items() for n, value in metrics.items()}
