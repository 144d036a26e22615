"""REBASE: the open steps of a level share its budget by their values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agents.search.answer import SELECTIONS
from agents.search.beam import LevelSearch
from reason_envs.envs.reason_tree.grower import Grower
from reason_envs.envs.reason_tree.tree import Tree
from reason_envs.tasks.mixture import apportion
from reason_envs.validation import limited


@dataclass
class Rebase(LevelSearch):
    """Reward-balanced search (Wu et al., "Inference Scaling Laws", ICLR 2025, arXiv 2408.00724).

    Each level draws as many steps as finished candidates are still missing. A softmax of the path values divides them
    among the open steps. Departure from the paper: shares are rounded by largest remainders, so that they sum to the
    budget exactly. The paper rounds each share separately.
    """

    width: int = limited(8, at_least=1)
    """Number of finished candidates to reach, and number of steps drawn on the first level."""
    balance: float = limited(0.1, above=0)
    """Temperature of the softmax. A lower temperature gives more of the budget to the best steps."""
    select: str = limited("vote", one_of=SELECTIONS)
    """Rule that chooses one candidate: ``maximum`` (value), ``vote`` (sum of values) or ``majority`` (number)."""

    def _continued(self, tree: Tree, grower: Grower, level: Sequence[int], leaves: int) -> list[int]:
        alive = [child for child in level if not tree.nodes[child].terminal]
        shares = allocate([tree.nodes[i].value for i in alive], self.width - leaves, self.balance)
        return [i for i, share in zip(alive, shares, strict=True) for _ in range(share)]


def allocate(values: Sequence[float], budget: int, balance: float) -> list[int]:
    """Divide a budget into whole numbers in proportion to ``exp(value / balance)`` by largest remainders.

    Earlier values win ties. There is one number per value; the list is empty if there are no values.
    """
    if not len(values):
        return []
    weights = np.exp((np.asarray(values) - max(values)) / balance)
    return apportion((weights / weights.sum()).tolist(), budget)
