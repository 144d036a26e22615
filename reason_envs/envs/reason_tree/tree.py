"""Tree of reasoning steps: plain data without models or randomness."""

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from reason_envs.views import NodeView

AGGREGATIONS: dict[str, tuple[float, Callable[[float, float], float]]] = {
    "product": (1.0, operator.mul),
    "min": (1.0, min),
    "last": (1.0, lambda value, score: score),
    "sum": (0.0, operator.add),
}
"""Aggregations of the step scores along a path into its value: value of the root, and function of the parent's value
and the step's score."""


@dataclass(slots=True, kw_only=True)
class Node(NodeView):
    """One reasoning step with everything that the growth of its tree needs."""

    token_ids: list[int]
    """Token ids of the step, those of its separator included."""
    depth: int
    """Number of steps from the root."""
    sibling: int
    """Number of children that the parent had before this one."""
    min_log_prob: float = 0.0
    """Log-probability of the least likely token, in nats; a mistake often shows there."""
    terminal: bool = False
    """Whether no step may follow: the step holds an answer, or the generator ended its text."""
    closed: bool = False
    """Whether the generator has no further child for this node, as when a record is exhausted."""
    unfinished: str = ""
    """Text of a step that was cut at ``max_step_tokens``, which the children continue; empty for a whole step."""
    children: list[int] = field(default_factory=list)
    """Indices of the children in the order of their draws."""
    draw_count: int = 0
    """Number of children drawn, merged duplicates included; it is part of the next draw's seed."""
    embedding: list[float] | None = None
    """The generator's embedding of the step (see `Generation.embedding`). ``None``: it returns none."""
    visits: int = 0
    """Number of times that a policy went to this node."""
    generator_prefix_cache: Any = field(default=None, compare=False, repr=False)
    """The generator's cached state of the path to this node (see `Generation.prefix_cache`)."""
    reward_model_prefix_cache: Any = field(default=None, compare=False, repr=False)
    """The reward model's cached state of the path to this node (see `StepScores.prefix_cache`)."""


@dataclass(slots=True)
class Tree:
    """A problem and the reasoning steps under it. Node 0 is the root."""

    question: str
    """Text of the problem."""
    nodes: list[Node]
    """All nodes; parents come before their children."""
    seed: int
    """Seed of the draws; each is derived from it and the path to its parent."""
    aggregation: str = "product"
    """Aggregation of scores into values, one of `AGGREGATIONS`."""
    prompt: list[Any] = field(default_factory=list)
    """Prompt of the generator: token ids, or chat messages until an engine has encoded them."""
    generated_tokens: int = 0
    """Number of tokens generated for this tree, duplicates and empty steps included."""
    generator_calls: int = 0
    """Number of samples requested from the generator."""
    cut_steps: int = 0
    """Number of steps that were cut at ``max_step_tokens``."""
    reward_model_calls: int = 0
    """Number of paths scored by the reward model."""
    reward_model_tokens: int = 0
    """Number of tokens that the reward model read."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the nodes and share their texts and tokens, which never change."""
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
        """Return all nodes, each followed by the nodes under it, the first child first."""
        order, waiting = [], [0]
        while waiting:
            order.append(waiting.pop())
            waiting += reversed(self.nodes[order[-1]].children)
        return order

    def address(self, index: int) -> list[int]:
        """Return the sibling numbers along the path to ``index``; they do not depend on the rest of the tree."""
        return [self.nodes[i].sibling for i in self.path(index)]

    def add(self, parent: int, text: str, **fields: Any) -> int:
        """Append a step under ``parent`` and return its index. ``fields`` are the other fields of the new node."""
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
    """Return a tree without steps."""
    root_value = AGGREGATIONS[aggregation][0]
    root = Node(-1, question, 1.0, root_value, log_prob=0.0, tokens=0, token_ids=[], depth=0, sibling=0)
    return Tree(question, [root], seed, aggregation, prompt)
