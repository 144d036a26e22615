"""The tree of reasoning steps: plain data, no model and no randomness."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

AGGREGATIONS: dict[str, tuple[float, Callable[[float, float], float]]] = {
    "product": (1.0, operator.mul),
    "min": (1.0, min),
    "last": (1.0, lambda value, score: score),
    "sum": (0.0, operator.add),
}
"""How the scores along a path become its value: the root's value, and the child's from the parent's and its score."""


@dataclass(slots=True)
class Node:
    """One reasoning step; the root stands for the problem."""

    parent: int
    """Index of the parent; -1 for the root."""
    text: str
    """The step without its separator."""
    token_ids: list[int]
    """Its tokens, the separator's included."""
    log_prob: float
    """Mean log-probability of its tokens; 0 where the engine gives none."""
    tokens: int
    """Tokens generated for it, those of merged duplicates included."""
    score: float
    """What the step reward model gave: the probability that the step is right."""
    value: float
    """The scores from the root to here, aggregated."""
    depth: int
    """Steps from the root."""
    sibling: int
    """How many children its parent had before."""
    least_log_prob: float = 0.0
    """Log-probability of its least likely token: where a slip shows."""
    terminal: bool = False
    """Whether nothing may follow: it holds an answer, or its text ended by itself."""
    closed: bool = False
    """Whether no further child can be drawn here (a record has no more, or the context is full)."""
    children: list[int] = field(default_factory=list)
    """Indices of its children, in the order they were drawn."""
    draws: int = 0
    """Children drawn here, merged duplicates included: numbers the next draw."""
    visits: int = 0
    """How often a policy came to stand there."""
    generator_prefix_cache: Any = field(default=None, compare=False, repr=False)
    """The generator's cached state of the path to this node (see `Generation.prefix_cache`)."""
    reward_model_prefix_cache: Any = field(default=None, compare=False, repr=False)
    """The reward model's cached state of the path to this node (see `StepScores.prefix_cache`)."""


@dataclass(slots=True)
class Tree:
    """A problem and the steps that have been written under it. Node 0 is the root."""

    question: str
    """The problem's text."""
    nodes: list[Node]
    """Every node; parents come before their children."""
    seed: int
    """Keys every draw, together with the path to where it is made."""
    aggregation: str = "product"
    """How scores become values (see `AGGREGATIONS`)."""
    prompt: list[Any] = field(default_factory=list)
    """What the generator reads before the first step: token ids, or chat messages before an engine has encoded them."""
    generated_tokens: int = 0
    """Every token generated for this tree, duplicates and empty steps included."""
    generator_calls: int = 0
    """Samples asked for."""
    reward_model_calls: int = 0
    """Paths scored."""
    reward_model_tokens: int = 0
    """Tokens that the reward model read for them."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Tree:
        """Copy the nodes; their texts and tokens never change and are shared."""
        nodes = [replace(node, children=list(node.children)) for node in self.nodes]
        return replace(self, nodes=nodes, prompt=copy.copy(self.prompt))

    def path(self, index: int) -> list[int]:
        """Return the nodes from below the root down to ``index``."""
        result = []
        while index > 0:
            result.append(index)
            index = self.nodes[index].parent
        return result[::-1]

    def steps(self, index: int) -> tuple[str, ...]:
        """Return the texts along the path to ``index``."""
        return tuple(self.nodes[i].text for i in self.path(index))

    def preorder(self) -> list[int]:
        """Return every node, each followed by all that stands under it, the first child first."""
        order, waiting = [], [0]
        while waiting:
            order.append(waiting.pop())
            waiting += reversed(self.nodes[order[-1]].children)
        return order

    def address(self, index: int) -> list[int]:
        """Return the sibling numbers along the path to ``index``: the same whatever else the tree holds."""
        return [self.nodes[i].sibling for i in self.path(index)]

    def twin(self, parent: int, text: str) -> int | None:
        """Return the child of ``parent`` with the same text, if there is one."""
        return next((child for child in self.nodes[parent].children if self.nodes[child].text == text), None)

    def add(self, parent: int, text: str, **fields: Any) -> int:
        """Append a step under ``parent`` and return its index.

        Args:
            parent: index of the node it follows.
            text: the step.
            fields: ``token_ids``, ``log_prob``, ``tokens``, ``score`` and the like of the new node.
        """
        above = self.nodes[parent]
        combine = AGGREGATIONS[self.aggregation][1]
        node = Node(
            parent=parent,
            text=text,
            value=combine(above.value, fields["score"]),
            depth=above.depth + 1,
            sibling=len(above.children),
            **fields,
        )
        self.nodes.append(node)
        above.children.append(len(self.nodes) - 1)
        return len(self.nodes) - 1


def new_tree(question: str, prompt: list[Any], seed: int, aggregation: str) -> Tree:
    """Return a tree that holds the problem alone."""
    root_value = AGGREGATIONS[aggregation][0]
    root = Node(-1, question, [], log_prob=0.0, tokens=0, score=1.0, value=root_value, depth=0, sibling=0)
    return Tree(question, [root], seed, aggregation, prompt)
