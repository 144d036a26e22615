"""GRPO: group-relative policy optimisation (Shao et al. 2024, arXiv 2402.03300).

Several episodes of each task are compared with each other; no value network. Departures from the paper, each an
option: the loss is a mean over all tokens of the batch (paper: ``aggregation=seq_mean_token_mean``) and there is no KL
penalty unless asked for (paper: ``kl_coef=0.04``). Dr. GRPO is ``scale=none aggregation=horizon``; GSPO is
``importance=sequence aggregation=seq_mean_token_mean``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.advantages import SCALES, frac_zero_std, group_relative
from agents.algorithms.config import LearnerConfig
from agents.algorithms.learner import Learner
from agents.algorithms.sample import Sample
from agents.losses import overlong_penalty
from agents.trajectory import Decision, Trajectory
from reason_envs.core import AgentId
from reason_envs.errors import unknown_name
from reason_envs.validation import at_least


@dataclass
class GRPOConfig(LearnerConfig):
    """Options of ``algo=grpo``."""

    samples_per_task: int = 8
    """Episodes of each task: the group that is compared."""
    scale: str = "std"
    """Advantages are divided by the group's sample standard deviation (``std``), by that of all rewards of the step
    and agent (``batch``: a group whose rewards hardly differ weighs little) or by nothing (``none``)."""
    leave_one_out: bool = False
    """Compare with the mean of the others (RLOO) instead of the mean of all."""
    overlong_cache: int | None = None
    """Responses lose up to 1 linearly over this many last tokens before ``policy.max_tokens`` (DAPO); off if null."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, samples_per_task=2, overlong_cache=1)
        if self.scale not in SCALES:
            raise unknown_name("algo.scale", self.scale, SCALES)


class GRPO(Learner):
    """Group-relative advantages on stream returns, spread over the stream's tokens."""

    config: GRPOConfig

    def credit(
        self, trajectories: Sequence[Trajectory], samples: Mapping[int, Sample]
    ) -> tuple[list[Sample], dict[str, float]]:
        """Give every decision the advantage of what it is part of."""
        decisions, advantages, metrics = self.advantages(trajectories)
        for decision, advantage in zip(decisions, advantages.tolist(), strict=True):
            samples[id(decision)].advantage = advantage
        return [samples[id(d)] for d in decisions], metrics

    def advantages(self, trajectories: Sequence[Trajectory]) -> tuple[list[Decision], Tensor, dict[str, float]]:
        """Compare returns within their groups.

        Returns:
            The decisions to train on, their advantages [N], and metrics.
        """
        streams = self.compared(trajectories)
        returns = torch.tensor([sum(d.reward for d in stream) for stream in streams])
        if self.config.overlong_cache is not None:
            longest = torch.tensor([max(len(d.choice.token_ids) for d in stream) for stream in streams])
            returns = returns + overlong_penalty(longest, self.policy.max_tokens, self.config.overlong_cache)
        groups = [stream[0].group_id for stream in streams]
        values = self._by_agent(returns, groups, [stream[0].agent for stream in streams])
        decisions = [d for stream in streams for d in stream]
        spread = torch.tensor([float(v) for v, stream in zip(values, streams, strict=True) for _ in stream])
        return decisions, spread, _without_signal(returns, groups, streams)

    def _by_agent(self, returns: Tensor, groups: Sequence[str], agents: Sequence[AgentId]) -> Tensor:
        """Compare within groups, scaling each agent's by rewards of its own: other roles may earn on another scale."""
        config, values = self.config, torch.zeros(len(returns))
        for name in dict.fromkeys(agents):
            mine = [i for i, agent in enumerate(agents) if agent == name]
            own = [groups[i] for i in mine]
            values[mine] = group_relative(returns[mine], own, config.scale, leave_one_out=config.leave_one_out)
        return values

    def compared(self, trajectories: Sequence[Trajectory]) -> list[list[Decision]]:
        """Return what has one return: each agent's decisions in an episode."""
        return [stream for trajectory in trajectories for stream in trajectory.streams()]

    def _validate(self) -> None:
        if self.config.overlong_cache is not None:
            overlong_penalty(torch.zeros(1), self.policy.max_tokens, self.config.overlong_cache)


def _without_signal(returns: Tensor, groups: Sequence[str], streams: Sequence[Sequence[Decision]]) -> dict[str, float]:
    """Shares of groups that teach nothing, by what they earned and by what they did; by agent too if there are several.

    Where all of a group did the same, its advantages, which sum to 0, cancel.
    """
    figures = {}
    agents = [stream[0].agent for stream in streams]
    names = dict.fromkeys(agents)
    for suffix, kept in [("", names), *((f"/{name}", {name: None}) for name in names if len(names) > 1)]:
        mine = [i for i, agent in enumerate(agents) if agent in kept]
        figures[f"frac_zero_std{suffix}"] = frac_zero_std(returns[mine], [groups[i] for i in mine])
        figures[f"frac_same_action{suffix}"] = _frac_same_action([groups[i] for i in mine], [streams[i] for i in mine])
    return figures


def _frac_same_action(groups: Sequence[str], streams: Sequence[Sequence[Decision]]) -> float:
    """Share of groups whose candidates, or episodes, all drew the same."""
    drawn: dict[str, set[tuple[tuple[int, ...], ...]]] = {}
    for group, stream in zip(groups, streams, strict=True):
        drawn.setdefault(group, set()).add(tuple(tuple(d.choice.token_ids) for d in stream))
    return sum(len(different) == 1 for different in drawn.values()) / max(len(drawn), 1)
