"""Samples: decisions on their way from trajectories into the loss."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from agents.trajectory import Decision, Trajectory


@dataclass
class Sample:
    """One decision with everything that the loss needs to know about it.

    The learner fills in log-probabilities, values and the KL penalty. ``Learner.credit`` fills in the advantage.
    """

    decision: Decision
    """The decision to train on."""
    advantage: float | Tensor = 0.0
    """Advantage of the decision: one number for all of its tokens, or one number per token, [T]."""
    old_log_probs: Tensor | None = None
    """Log-probabilities of the tokens at the weights that sampled them, [T]. ``None``: the forward pass of the update
    itself runs at those weights."""
    reference_log_probs: Tensor | None = None
    """Log-probabilities of the tokens under the reference policy, [T]. ``None``: no KL term is used."""
    old_values: Tensor | None = None
    """State values at the weights that sampled, [T]. ``None``: the learner uses no values."""
    returns: Tensor | None = None
    """Targets of the first values: [T], one per token, or [1], one per decision. ``None``: no values are trained."""
    kl_penalty: float = 0.0
    """Amount that ``reward`` subtracts for the distance from the reference policy (``kl_reward_coef``)."""

    @property
    def reward(self) -> float:
        """Reward of the decision minus its KL penalty. Estimators of advantages start from this number."""
        return self.decision.reward - self.kl_penalty


@dataclass(frozen=True)
class SampledTrajectory:
    """A trajectory whose decisions have become samples."""

    trajectory: Trajectory
    """The episode that the samples belong to."""
    samples: list[Sample]
    """One sample per decision of the trajectory, in the same order."""

    @classmethod
    def of(cls, trajectory: Trajectory) -> Self:
        """Make a sample of each decision."""
        return cls(trajectory, [Sample(decision) for decision in trajectory.decisions])

    def streams(self) -> Iterator[list[Sample]]:
        """Iterate over the streams: the samples of each agent on the episode's path, in order."""
        path = [sample for sample in self.samples if sample.decision.on_path]
        for agent in dict.fromkeys(sample.decision.agent for sample in path):
            yield [sample for sample in path if sample.decision.agent == agent]


def with_advantages(groups: Sequence[Sequence[Sample]], advantages: Tensor) -> list[Sample]:
    """Give all samples of a group the advantage of the group, [groups]; return the samples in order."""
    for group, advantage in zip(groups, advantages.tolist(), strict=True):
        for sample in group:
            sample.advantage = advantage
    return [sample for group in groups for sample in group]


def stack(rows: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """Stack rows of different lengths into the shape and on the device of ``like``, padded with zeros."""
    stacked = torch.zeros(like.shape, dtype=like.dtype)
    for i, row in enumerate(rows):
        assert row is not None
        stacked[i, : len(row)] = row
    return stacked.to(like.device)


def masked_mean(values: Tensor, mask: Tensor) -> float:
    """Return the mean over the positions where ``mask`` is true."""
    return float(values.detach()[mask].mean())
