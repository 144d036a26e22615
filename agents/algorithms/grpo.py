"""GRPO: group-relative policy optimisation (Shao et al. 2024, arXiv 2402.03300).

Several episodes of each task are compared with each other, without a value network. Departures from the paper, each an
option: the loss is the mean over all tokens of the batch (paper: ``aggregation=seq_mean_token_mean``), and the KL
penalty is off by default (paper: ``kl_coef=0.04``). Dr. GRPO is ``scale=none aggregation=horizon``; GSPO is
``importance=sequence aggregation=seq_mean_token_mean``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from agents.advantages import frac_zero_std, group_relative
from agents.algorithms.learner import Learner
from agents.algorithms.options import GRPOConfig
from agents.algorithms.sample import Sample, SampledTrajectory, with_advantages
from agents.losses import overlong_penalty
from reason_envs.core import AgentId


class GRPO(Learner):
    """Group-relative advantages on stream returns; every token of a stream gets the advantage of its stream."""

    config: GRPOConfig
    skips_zero_advantages = True

    def credit(self, trajectories: Sequence[SampledTrajectory]) -> tuple[list[Sample], dict[str, float]]:
        """Compare returns within their groups and give each decision the advantage of its return."""
        streams = self.advantage_groups(trajectories)
        returns = torch.tensor([sum(sample.reward for sample in stream) for stream in streams])
        if self.config.overlong_cache is not None:
            longest = torch.tensor([max(len(s.decision.choice.token_ids) for s in stream) for stream in streams])
            returns = returns + overlong_penalty(longest, self.policy.max_tokens, self.config.overlong_cache)
        groups = [stream[0].decision.group_id for stream in streams]
        agents = [stream[0].decision.agent for stream in streams]
        config, advantages = self.config, torch.zeros(len(returns))
        for name in dict.fromkeys(agents):  # one agent at a time, since agents may earn on different scales
            mine = [i for i, agent in enumerate(agents) if agent == name]
            own = [groups[i] for i in mine]
            advantages[mine] = group_relative(returns[mine], own, config.scale, leave_one_out=config.leave_one_out)
        return with_advantages(streams, advantages), _without_signal(returns, groups, agents, streams)

    def advantage_groups(self, trajectories: Sequence[SampledTrajectory]) -> list[list[Sample]]:
        """Return the samples that share one return and so one advantage: each agent's stream in an episode."""
        return [stream for trajectory in trajectories for stream in trajectory.streams()]

    def validate(self) -> None:
        """Check that ``overlong_cache`` is not longer than a response."""
        if self.config.overlong_cache is not None:
            overlong_penalty(torch.zeros(1), self.policy.max_tokens, self.config.overlong_cache)


def _without_signal(
    returns: Tensor, groups: Sequence[str], agents: Sequence[AgentId], streams: Sequence[Sequence[Sample]]
) -> dict[str, float]:
    """Return the shares of groups without a gradient: equal returns, or equal actions, whose advantages cancel.

    If there are several agents, the shares of each agent follow.
    """
    metrics = {}
    names = dict.fromkeys(agents)
    for suffix, kept in [("", names), *((f"/{name}", {name: None}) for name in names if len(names) > 1)]:
        mine = [i for i, agent in enumerate(agents) if agent in kept]
        metrics[f"frac_zero_std{suffix}"] = frac_zero_std(returns[mine], [groups[i] for i in mine])
        metrics[f"frac_same_action{suffix}"] = _frac_same_action([groups[i] for i in mine], [streams[i] for i in mine])
    return metrics


def _frac_same_action(groups: Sequence[str], streams: Sequence[Sequence[Sample]]) -> float:
    """Return the share of groups whose streams all consist of the same tokens."""
    drawn: dict[str, set[tuple[tuple[int, ...], ...]]] = {}
    for group, stream in zip(groups, streams, strict=True):
        drawn.setdefault(group, set()).add(tuple(tuple(s.decision.choice.token_ids) for s in stream))
    return sum(len(different) == 1 for different in drawn.values()) / max(len(drawn), 1)
