"""ReasonTreePaper-v0: the search tree of "Policy Guided Tree Search" (arXiv 2502.06813)."""

from dataclasses import dataclass

import numpy as np

from reason_envs.envs.reason_tree.config import ReasonTreeConfig
from reason_envs.envs.reason_tree.environment import ReasonTree
from reason_envs.envs.reason_tree.grower import draw_steps

EXPAND, BRANCH, TERMINATE, BACKTRACK = range(4)
"""Actions. BACKTRACK goes one level up, BACKTRACK + 1 two levels, and so on."""


@dataclass
class ReasonTreePaperConfig(ReasonTreeConfig):
    """Options of ReasonTreePaper-v0, with the values of the paper."""

    max_depth: int = 16
    max_branch: int = 4
    """Number of steps that are drawn together when a node is first expanded."""
    temperature: float = 0.6
    top_p: float = 0.9
    aggregation: str = "sum"
    expand_cost: float = 0.1
    branch_cost: float = 0.2
    backtrack_cost: float = 0.5
    """Cost of the action BACKTRACK, subtracted from the reward. It does not depend on the number of levels."""


class ReasonTreePaper(ReasonTree):
    """The search tree of the paper: siblings are drawn together, and other actions move among them.

    * EXPAND (0) goes to the first child. A node without children first gets ``max_branch`` steps (fewer if the tree is
      almost full; equal steps are merged). It is legal if the path has not ended and is shorter than ``max_depth``.
    * BRANCH (1) goes to the next sibling, and from the last one to the first. It is legal if there are siblings.
    * TERMINATE (2) submits the answer of the path. It is legal at an answer, or if no other action is legal.
    * BACKTRACK_k (2 + k) goes k levels up. It is legal if it ends below the root.

    BACKTRACK never reaches the root: only EXPAND is legal there, and it would return to the first child. Therefore k is
    at most ``max_depth - 1``, and there are ``2 + max_depth`` actions, as in the paper. Rewards, observations and
    everything else are as in `ReasonTree`.
    """

    def __init__(self, config: ReasonTreePaperConfig | None = None) -> None:
        config = config or ReasonTreePaperConfig()
        levels = range(1, config.max_depth)
        self.action_names = ("EXPAND", "BRANCH", "TERMINATE", *(f"BACKTRACK_{k}" for k in levels))
        super().__init__(config)
        self._costs = (config.expand_cost, config.branch_cost, 0.0, *(config.backtrack_cost for _ in levels))

    def action_masks(self) -> np.ndarray:
        """Return which actions are legal now, as booleans [actions]."""
        self.check_started()
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
            node = state.tree.nodes[state.current]
            if not node.children:
                await draw_steps(state.tree, self.grower, [state.current] * self.config.max_branch)
            if node.children:
                self._go(node.children[0])
        elif action == BRANCH:
            siblings = self._siblings()
            self._go(siblings[(siblings.index(state.current) + 1) % len(siblings)])
        elif action == TERMINATE:
            state.answered = True
        else:
            self._go(state.tree.path(state.current)[BACKTRACK - action - 2])

    def _siblings(self) -> list[int]:
        """Return the children of the current node's parent; empty for the root."""
        tree = self.state.tree
        return tree.nodes[tree.nodes[self.state.current].parent].children if self.state.current else []
