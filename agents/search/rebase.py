"""REBASE: a level's budget is shared among the open steps by their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agents.search.answer import Answer, check_selection, finished, submit
from agents.search.beam import check_first_level
from reason_envs.envs.reason_tree.grower import Grower, draw_steps
from reason_envs.envs.reason_tree.tree import Tree
from reason_envs.errors import ReasonEnvsError


@dataclass
class Rebase:
    """Reward-balanced search (Wu et al., "Inference Scaling Laws", ICLR 2025, arXiv 2408.00724).

    Every level draws as many steps as candidates are still missing, shared by a softmax of the path values. Departure:
    shares are rounded to sum to the budget exactly (largest remainders), where the paper rounds each by itself.
    """

    width: int = 8
    """Finished candidates wanted, and steps drawn on the first level."""
    balance: float = 0.1
    """Temperature of the softmax: lower spends more on the best."""
    select: str = "vote"
    """How a finished candidate is chosen (see ``SELECTIONS``)."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.balance <= 0:
            raise ReasonEnvsError(f"width={self.width} must be at least 1, and balance={self.balance} above 0.")
        check_selection(self.select)

    async def search(self, tree: Tree, grower: Grower) -> Answer:
        """Grow the tree and submit an answer."""
        check_first_level(self.width, grower)
        leaves: list[int] = []
        parents = [0] * self.width
        while parents:
            drawn = [child for child in await draw_steps(tree, grower, parents) if child is not None]
            leaves += [child for child in drawn if finished(tree, grower, child)]
            alive = [child for child in drawn if not tree.nodes[child].terminal]
            shares = allocate([tree.nodes[i].value for i in alive], self.width - len(leaves), self.balance)
            parents = [i for i, share in zip(alive, shares, strict=True) for _ in range(share)]
        return submit(tree, grower, leaves, self.select)


def allocate(values: Sequence[float], budget: int, balance: float) -> list[int]:
    """Share a budget in proportion to ``exp(value / balance)``, by largest remainders; ties go to the first.

    Returns:
        A whole number for each value; they sum to ``budget`` where there are values.
    """
    if not len(values):
        return []
    weights = np.exp((np.asarray(values) - max(values)) / balance)
    exact = budget * weights / weights.sum()
    shares = np.floor(exact).astype(int)
    rest = np.argsort(-np.round(exact - shares, 9), kind="stable")[: budget - shares.sum()]
    shares[rest] += 1
    return shares.tolist()
