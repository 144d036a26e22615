"""Monte Carlo tree search over reasoning steps, a new step a simulation."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from agents.search.answer import Answer, finished, submit
from reason_envs.envs.reason_tree.grower import Grower, draw_steps
from reason_envs.envs.reason_tree.tree import Tree
from reason_envs.errors import ReasonEnvsError


@dataclass
class MonteCarloTreeSearch:
    """PUCT (Silver et al. 2017) with the path value of each simulation's new step backed up to the root.

    A node has ``branch`` places. A place that has not been drawn competes with the children as one of value 0 without
    visits; priors are uniform, since steps are drawn from the generator's own distribution. A simulation walks down by
    ``value + c_puct / branch * sqrt(visits) / (1 + child's visits)`` until it draws a step. A step at which a path ends
    without an answer is worth 0. The most valuable finished path is submitted. Departure: where nothing can be drawn
    any more the search does not go again, as the same value would come back.
    """

    budget: int = 16
    """Simulations: steps drawn at most."""
    branch: int = 16
    """Steps drawn under a node at most."""
    c_puct: float = 1.0
    """Weight of exploration."""

    def __post_init__(self) -> None:
        if self.budget < 1 or self.branch < 1 or self.c_puct < 0:
            raise ReasonEnvsError(
                f"budget={self.budget} and branch={self.branch} must be at least 1, and c_puct={self.c_puct} not "
                "negative."
            )

    async def search(self, tree: Tree, grower: Grower) -> Answer:
        """Grow the tree and submit an answer."""
        statistics = Statistics(self.c_puct, self.branch)
        for _ in range(self.budget):
            path = await self._simulate(tree, grower, statistics)
            statistics.back_up(path, self._worth(tree, grower, path[-1]))
            for node in reversed(path):
                if not self._may_draw(tree, grower, node):
                    statistics.close(node, tree.nodes[node].children)
            if 0 in statistics.closed:
                break
        leaves = [i for i in range(1, len(tree.nodes)) if finished(tree, grower, i)]
        return submit(tree, grower, leaves, "maximum")

    async def _simulate(self, tree: Tree, grower: Grower, statistics: Statistics) -> list[int]:
        """Walk down from the root until a step is drawn, or to where none can be; return the path."""
        path = [0]
        while True:
            node = path[-1]
            may_draw = self._may_draw(tree, grower, node)
            child = statistics.choose(node, tree.nodes[node].children, may_draw)
            if child is not None:
                path.append(child)
                continue
            if not may_draw:
                return path
            (new,) = await draw_steps(tree, grower, [node])
            if new is not None:
                return [*path, new]

    def _may_draw(self, tree: Tree, grower: Grower, node: int) -> bool:
        return tree.nodes[node].draws < self.branch and grower.may_grow(tree, node)

    def _worth(self, tree: Tree, grower: Grower, index: int) -> float:
        node = tree.nodes[index]
        at_end = node.terminal or node.depth >= grower.config.max_depth
        return 0.0 if at_end and not finished(tree, grower, index) else node.value


@dataclass
class Statistics:
    """Visits and mean values of a tree's nodes."""

    c_puct: float
    """Weight of exploration."""
    branch: int
    """Places of a node; the prior of each is ``1 / branch``."""
    visits: Counter[int] = field(default_factory=Counter)
    """Simulations that went through a node."""
    totals: dict[int, float] = field(default_factory=dict)
    """Sum of what they found."""
    closed: set[int] = field(default_factory=set)
    """Nodes at and below which nothing can be drawn."""

    def back_up(self, path: list[int], value: float) -> None:
        """Add what a simulation found to every node on its path."""
        for node in path:
            self.visits[node] += 1
            self.totals[node] = self.totals.get(node, 0.0) + value

    def close(self, node: int, children: list[int]) -> None:
        """Close a node where nothing can be drawn, once all its children are closed."""
        if self.closed.issuperset(children):
            self.closed.add(node)

    def score(self, parent: int, child: int | None) -> float:
        """Return what selection maximises, for a child or (``None``) a place that has not been drawn."""
        visits = 0 if child is None else self.visits[child]
        mean = self.totals[child] / visits if child is not None and visits else 0.0
        return mean + self.c_puct / self.branch * math.sqrt(self.visits[parent]) / (1 + visits)

    def choose(self, parent: int, children: list[int], may_draw: bool) -> int | None:
        """Return the open child to go to; ``None``: draw a new one, or stop where that cannot be."""
        places: list[int | None] = [child for child in children if child not in self.closed]
        if may_draw:
            places.append(None)
        return max(places, key=lambda child: self.score(parent, child), default=None)
