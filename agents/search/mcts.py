"""Monte Carlo tree search over reasoning steps. Each simulation adds one step."""

import math
from collections import Counter
from dataclasses import dataclass, field

from agents.search.answer import Answer, finished, submit
from reason_envs.envs.reason_tree.grower import Grower, draw_steps
from reason_envs.envs.reason_tree.tree import Tree
from reason_envs.validation import Checked, limited


@dataclass
class Statistics:
    """Visits and mean values of the nodes of a tree."""

    exploration: float
    """Weight of exploration, times the prior of a place, ``1 / branch``."""
    visits: Counter[int] = field(default_factory=Counter)
    """Number of simulations through each node."""
    totals: dict[int, float] = field(default_factory=dict)
    """Sum of the values of the simulations through each node."""
    closed: set[int] = field(default_factory=set)
    """Nodes at and below which no step can be drawn."""

    def back_up(self, path: list[int], value: float) -> None:
        """Add the value of a simulation to every node on its path."""
        for node in path:
            self.visits[node] += 1
            self.totals[node] = self.totals.get(node, 0.0) + value

    def close(self, node: int, children: list[int]) -> None:
        """Close a node at which no step can be drawn, if all its children are closed."""
        if self.closed.issuperset(children):
            self.closed.add(node)

    def score(self, parent: int, child: int | None) -> float:
        """Return the PUCT score of a child, or of a place without a step (``None``)."""
        visits = 0 if child is None else self.visits[child]
        mean = self.totals[child] / visits if child is not None and visits else 0.0
        return mean + self.exploration * math.sqrt(self.visits[parent]) / (1 + visits)

    def choose(self, parent: int, children: list[int], may_draw: bool) -> int | None:
        """Return the open child with the highest score, or ``None`` to draw a step (to stop, if none may be drawn)."""
        places: list[int | None] = [child for child in children if child not in self.closed]
        if may_draw:
            places.append(None)
        return max(places, key=lambda child: self.score(parent, child), default=None)


@dataclass
class MonteCarloTreeSearch(Checked):
    """PUCT (Silver et al. 2017). Each simulation draws a step and backs up its path value to the root.

    A node has ``branch`` places. A place without a step competes with the children and has value 0 and no visits. The
    priors are uniform, because the generator samples the steps. A simulation follows the highest
    ``value + c_puct / branch * sqrt(visits) / (1 + visits of the child)`` until it draws a step. A path that ends
    without an answer has value 0. The search submits the finished path with the highest value. Departure from PUCT:
    nodes at and below which no step can be drawn are not visited again, because they would give the same value.
    """

    budget: int = limited(16, at_least=1)
    """Maximum number of simulations. Each draws one step."""
    branch: int = limited(16, at_least=1)
    """Maximum number of steps drawn from one node."""
    c_puct: float = limited(1.0, at_least=0)
    """Weight of exploration. 0 follows the values only."""

    async def search(self, tree: Tree, grower: Grower) -> Answer:
        """Grow the tree and submit an answer."""
        statistics = Statistics(self.c_puct / self.branch)
        for _ in range(self.budget):
            path = await self._simulate(tree, grower, statistics)
            end = tree.nodes[path[-1]]
            may_go_on = not end.terminal and end.depth < grower.config.max_depth
            statistics.back_up(path, end.value if may_go_on or finished(tree, grower, path[-1]) else 0.0)
            for node in reversed(path):
                if not self._may_draw(tree, grower, node):
                    statistics.close(node, tree.nodes[node].children)
            if 0 in statistics.closed:
                break
        leaves = [i for i in range(1, len(tree.nodes)) if finished(tree, grower, i)]
        return await submit(tree, grower, leaves, "maximum")

    async def _simulate(self, tree: Tree, grower: Grower, statistics: Statistics) -> list[int]:
        """Go down from the root until a step is drawn or no step can be drawn; return the path."""
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
        return tree.nodes[node].draw_count < self.branch and grower.may_grow(tree, node)
