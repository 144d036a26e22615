"""GRPO: group-relative policy optimisation (Shao et al. 2024, arXiv 2402.03300).

Several episodes of each task are compared with each other; no value network. Departures from the paper, each an
option: the loss is a mean over all tokens of the batch (paper: ``aggregation=seq_mean_token_mean``) and there is no KL
penalty unless asked for (paper: ``kl_coef=0.04``). Dr. GRPO is ``scale=none aggregation=horizon``; GSPO is
``importance=sequence aggregation=seq_mean_token_mean``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.advantages import SCALES, frac_zero_std, group_relative
from agents.learner import Learner, LearnerConfig
from agents.losses import overlong_penalty
from agents.rollout import grouped, play
from agents.trajectory import Decision, Trajectory
from agents.validation import check_least
from reason_envs.core import derive_seed
from reason_envs.errors import unknown_name


@dataclass
class GRPOConfig(LearnerConfig):
    """Options of ``algo=grpo``."""

    samples_per_task: int = 8
    """Episodes of each task: the group that is compared."""
    scale: str = "std"
    """Advantages are divided by the group's sample standard deviation (``std``) or not at all (``none``)."""
    leave_one_out: bool = False
    """Compare with the mean of the others (RLOO) instead of the mean of all."""
    overlong_cache: int | None = None
    """Responses lose up to 1 linearly over this many last tokens before ``policy.max_tokens`` (DAPO); off if null."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, "algo.", {"samples_per_task": 2, "overlong_cache": 1})
        if self.scale not in SCALES:
            raise unknown_name("algo.scale", self.scale, SCALES)


class GRPO(Learner):
    """Group-relative advantages on stream returns, spread over the stream's tokens."""

    config: GRPOConfig

    @property
    def decisions_per_step(self) -> int:
        """Decisions of a training step with one decision an episode."""
        return self.config.tasks_per_step * self.config.samples_per_task

    async def collect(self, step: int) -> list[Trajectory]:
        """Play ``samples_per_task`` episodes of the step's tasks."""
        first = step * self.config.tasks_per_step
        tasks = [self.tasks.ordered(first + i, self.seed) for i in range(self.config.tasks_per_step)]
        episodes = grouped(tasks, self.config.samples_per_task, derive_seed(self.seed, "train", step))
        return await play(self.environment, self.policy, episodes)

    def advantages(self, trajectories: Sequence[Trajectory]) -> tuple[list[Decision], Tensor, dict[str, float]]:
        """Compare stream returns within their groups."""
        streams = [stream for trajectory in trajectories for stream in trajectory.streams()]
        returns = torch.tensor([sum(d.reward for d in stream) for stream in streams])
        if self.config.overlong_cache is not None:
            longest = torch.tensor([max(len(d.choice.token_ids) for d in stream) for stream in streams])
            returns = returns + overlong_penalty(longest, self.policy.max_tokens, self.config.overlong_cache)
        groups = [stream[0].group_id for stream in streams]
        values = group_relative(returns, groups, scale=self.config.scale, leave_one_out=self.config.leave_one_out)
        decisions = [d for stream in streams for d in stream]
        spread = torch.tensor([float(v) for v, stream in zip(values, streams, strict=True) for _ in stream])
        return decisions, spread, {"frac_zero_std": frac_zero_std(returns, groups)}

    def _validate(self) -> None:
        super()._validate()
        if self.config.overlong_cache is not None:
            overlong_penalty(torch.zeros(1), self.policy.max_tokens, self.config.overlong_cache)
