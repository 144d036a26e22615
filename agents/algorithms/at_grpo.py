"""AT-GRPO: agent- and turn-wise group-relative policy optimisation ("Stronger Together", arXiv 2510.11062).

At each turn each agent, in order, draws several candidates from the same state; they are compared with each other, and
one of them is played on (see ``agents.rollout.turn_tree``). A candidate is worth what its own step pays its agent: in
the multi-agent environments ``alpha * team + local``. Candidates left behind are trained on as well. So groups are
keyed by (task, turn, agent) at every turn, and a task costs K times the tokens of an episode, all of which are counted.

Departures from the paper, each an option: no dual clip unless asked for (paper: ``dual_clip=3``); advantages are scaled
by the spread of the step's rewards (paper: ``scale=std``, the group's), since candidates of one turn often differ by
the price of a move alone, which the group's spread makes as loud as the prize for solving it; and the candidate that is
played on can be drawn (``select=sample``) or be the first (``select=first``). Evaluation plays one candidate a turn and
selects nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.algorithms.grpo import GRPO, GRPOConfig
from agents.rollout.turn_tree import SELECTIONS, play_turn_tree
from agents.trajectory import Decision, Trajectory
from reason_envs.errors import unknown_name


@dataclass
class ATGRPOConfig(GRPOConfig):
    """Options of ``algo=at_grpo``."""

    samples_per_task: int = 4
    """Candidates of each agent's turn (K): the group that is compared. A task is played once."""
    scale: str = "batch"
    """Advantages are divided by the sample standard deviation of all rewards of the step and agent (``batch``), by that
    of the group (``std``) or by nothing (``none``)."""
    select: str = "best"
    """Which candidate is played on: the ``best`` paid, one drawn by ``sample``, or the ``first``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.select not in SELECTIONS:
            raise unknown_name("algo.select", self.select, SELECTIONS)


class ATGRPO(GRPO):
    """Group-relative advantages on single decisions: candidates of one agent at one turn of one task."""

    config: ATGRPOConfig

    async def collect(self, step: int) -> list[Trajectory]:
        """Play the step's tasks with ``samples_per_task`` candidates a turn."""
        select, acting = self.config.select, self.acting(step)
        return await play_turn_tree(self.environment, self.policy, self.plan(step), select, **acting)

    def compared(self, trajectories: Sequence[Trajectory]) -> list[list[Decision]]:
        """Compare decisions one by one, those left behind included."""
        return [[decision] for trajectory in trajectories for decision in trajectory.decisions]
