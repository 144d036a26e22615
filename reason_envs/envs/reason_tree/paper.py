"""ReasonTreePaper-v0: the tree with the actions and costs of "Policy Guided Tree Search" (arXiv 2502.06813)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reason_envs.envs.reason_tree.config import ReasonTreeConfig
from reason_envs.envs.reason_tree.environment import ReasonTree
from reason_envs.envs.reason_tree.grower import draw_steps

EXPAND, BRANCH, TERMINATE, BACKTRACK = range(4)
"""BACKTRACK goes one level up, BACKTRACK + 1 two, and so on."""


@dataclass
class ReasonTreePaperConfig(ReasonTreeConfig):
    """Options of ReasonTreePaper-v0: the paper's numbers."""

    max_depth: int = 16
    """Most steps of a path."""
    max_branch: int = 4
    """Steps that are drawn together where a node is first expanded."""
    temperature: float = 0.6
    """Sampling temperature of the generator."""
    top_p: float = 0.9
    """Nucleus of the generator; 1 keeps all tokens."""
    aggregation: str = "sum"
    """How the step scores along a path become its value: ``product``, ``min``, ``last`` or ``sum``."""
    expand_cost: float = 0.1
    """Cost of EXPAND."""
    branch_cost: float = 0.2
    """Cost of BRANCH."""
    backtrack_cost: float = 0.5
    """Cost of BACKTRACK, however many levels."""


class ReasonTreePaper(ReasonTree):
    """The search tree of the paper: siblings are drawn together, and later actions walk among them.

    EXPAND (0) goes to the current node's first child; where it has none, ``max_branch`` steps are drawn under it at
    once (fewer where the tree is almost full; equal ones are merged). BRANCH (1) goes to the next sibling, and from the
    last one to the first, without a call. TERMINATE (2) submits the path's answer. BACKTRACK_k (2 + k) goes k levels
    up. Legal are EXPAND above ``max_depth`` where the path has not ended, BRANCH where there are siblings, TERMINATE at
    an answer or where nothing else is legal, and BACKTRACK_k where it ends below the root: at the root only EXPAND is
    legal, which would lead back to a first child that BACKTRACK and BRANCH reach directly. So k is at most
    ``max_depth - 1``, and there are the paper's ``2 + max_depth`` actions.

    All else, rewards and observations included, is as in ``ReasonTree``.

    Args:
        config: the options; all defaults where it is ``None``.
    """

    def __init__(self, config: ReasonTreePaperConfig | None = None) -> None:
        config = config or ReasonTreePaperConfig()
        levels = range(1, config.max_depth)
        self.action_names = ("EXPAND", "BRANCH", "TERMINATE", *(f"BACKTRACK_{k}" for k in levels))
        super().__init__(config)
        self._costs = (config.expand_cost, config.branch_cost, 0.0, *(config.backtrack_cost for _ in levels))

    def action_masks(self) -> np.ndarray:
        """Return which actions are legal now, as booleans."""
        tree, current = self.state.tree, self.state.current
        node = tree.nodes[current]
        mask = np.zeros(len(self.action_names), np.bool_)
        mask[EXPAND] = bool(node.children) or self.grower.may_grow(tree, current)
        mask[BRANCH] = len(self._siblings()) > 1
        mask[BACKTRACK : BACKTRACK + max(node.depth - 1, 0)] = True
        mask[TERMINATE] = node.terminal or not mask.any()
        return mask

    async def _move(self, action: int) -> None:
        state = self.state
        if action == EXPAND:
            await self._expand()
        elif action == BRANCH:
            siblings = self._siblings()
            self._go(siblings[(siblings.index(state.current) + 1) % len(siblings)])
        elif action == TERMINATE:
            state.answered = True
        else:
            self._go(state.tree.path(state.current)[BACKTRACK - action - 2])

    async def _expand(self) -> None:
        tree, current = self.state.tree, self.state.current
        if not tree.nodes[current].children:
            await draw_steps(tree, self.grower, [current] * self.config.max_branch)
        if tree.nodes[current].children:
            self._go(tree.nodes[current].children[0])

    def _siblings(self) -> list[int]:
        """Return the current node and the others under its parent; none for the root."""
        tree = self.state.tree
        return tree.nodes[tree.nodes[self.state.current].parent].children if self.state.current else []
