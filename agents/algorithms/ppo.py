"""PPO: proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) with a learned value function.

Episodes are independent. Generalised advantage estimation (arXiv 1506.02438) runs over each stream: the decisions of
one agent in an episode. At the level of tokens they are laid out token by token, and a decision's reward is paid at its
last one; at the level of turns a decision is one step, with one value, that of the state before its first token (of a
language policy: at the last token of its prompt), and its advantage is spread over its tokens. For policies of one
action a decision both are the same. Departures from the paper, each an option: advantages are normalised over the whole
batch of a training step, and the passes can end early by the KL.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from agents.advantages import gae
from agents.algorithms.config import LearnerConfig
from agents.algorithms.learner import Learner
from agents.algorithms.optimizer import OptimizerConfig
from agents.algorithms.sample import Sample, Totals, masked_mean, stack
from agents.algorithms.update import PolicyUpdate
from agents.losses import aggregate, value_loss
from agents.policies.base import Evaluation, TrainablePolicy
from agents.policies.roles import policy_parts
from agents.trajectory import Trajectory
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.validation import at_least

GAE_LEVELS = ("token", "turn")
EQUAL = 1e-6
"""Advantages, or returns, that differ by no more than this share of the largest are equal but for rounding."""


@dataclass
class PPOConfig(LearnerConfig):
    """Options of ``algo=ppo``."""

    tasks_per_step: int = 192
    """Tasks of a training step."""
    minibatch_size: int | None = 512
    """Decisions of an optimizer step; ``None``, or more than a training step has, takes them all as one batch."""
    epochs_per_batch: int = 4
    """Passes over each batch."""
    gamma: float = 1.0
    """Discount from one token or decision to the next."""
    lam: float = 0.95
    """Advantages trust the values (0: one-step errors) or the rewards (1: Monte Carlo)."""
    gae_level: str = "token"
    """What is a step of the advantage estimation: each ``token``, or each decision (``turn``), whose tokens share one
    value and one advantage."""
    value_coef: float = 0.5
    """Coefficient of the value loss."""
    value_learning_rate: float | None = None
    """Learning rate of the value head, whose gradients are then clipped apart from the others'; ``None``:
    ``optimizer.learning_rate``, clipped together."""
    value_clip: float | None = None
    """Values that move further than this from those at the sampling weights gain nothing; ``None`` is off."""
    normalise_advantages: bool = True
    """Shift and scale the advantages of a training step to mean 0 and standard deviation 1."""
    entropy_coef: float = 0.01
    """Coefficient of an entropy bonus."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=1e-3, max_grad_norm=0.5))
    """Learning rate, schedule, clipping; the defaults suit the small graph network."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, value_coef=0, value_clip=0, value_learning_rate=0)
        if self.gae_level not in GAE_LEVELS:
            raise unknown_name("algo.gae_level", self.gae_level, GAE_LEVELS)
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ReasonEnvsError(f"algo.{name}={getattr(self, name)} must lie in [0, 1].")


class PPOUpdate(PolicyUpdate):
    """The update with a value loss beside the policy's."""

    config: PPOConfig

    def _further_terms(
        self, samples: list[Sample], out: Evaluation, totals: Totals, extra: dict[str, float]
    ) -> Tensor | float:
        assert out.values is not None
        old = stack([s.old_values for s in samples], out.values)
        returns = stack([s.returns for s in samples], out.values)
        mask = stack([torch.ones_like(s.returns) for s in samples if s.returns is not None], out.values).bool()
        loss = value_loss(out.values, old, returns, mask, self.config.value_clip, totals.returns)
        error = aggregate((out.values.detach() - returns).square() / 2, mask, denominator=totals.returns)
        # Metrics of micro-batches are weighed by their tokens: this makes the sum of them the mini-batch's mean.
        extra["value_loss"] = float(error) * totals.tokens / float(out.mask.sum())
        extra["entropy"] = masked_mean(out.entropy, out.mask)
        return self.config.value_coef * loss + super()._further_terms(samples, out, totals, extra)


class PPO(Learner):
    """Generalised advantages on rewards and values, clipped updates of both over several passes."""

    config: PPOConfig
    updater = PPOUpdate
    uses_values = True

    def credit(
        self, trajectories: Sequence[Trajectory], samples: Mapping[int, Sample]
    ) -> tuple[list[Sample], dict[str, float]]:
        """Write advantages, one number a token, and returns, one a step of the estimation, into the samples."""
        streams = [[samples[id(d)] for d in stream] for t in trajectories for stream in t.streams()]
        steps = [[self._steps(s) for s in stream] for stream in streams]
        values = _laid_out([torch.cat([value for value, _ in stream]) for stream in steps])
        rewards = _laid_out([torch.cat([reward for _, reward in stream]) for stream in steps])
        mask = _laid_out([torch.ones(sum(len(value) for value, _ in stream)) for stream in steps]).bool()
        gamma, lam = self.config.gamma, self.config.lam
        # In float64, so that what thousands of tokens round off does not add up.
        found = gae(rewards.double(), values.double(), mask, gamma, lam, self._bootstrap(trajectories))
        advantages, returns = (part.float() for part in found)
        metrics: dict[str, float] = {}
        for name, rows in self._parts(streams).items():
            part, valid = f"/{name}" if name else "", mask & rows[:, None]
            metrics[f"explained_variance{part}"] = _explained(values[valid], returns[valid])
            metrics[f"advantage_std{part}"] = float(advantages[valid].std(correction=0))
            if self.config.normalise_advantages:
                advantages = torch.where(valid, _normalised(advantages, valid), advantages)
        for stream, mine, row, targets in zip(streams, steps, advantages, returns, strict=True):
            _write(stream, [len(value) for value, _ in mine], row, targets)
        return [sample for stream in streams for sample in stream], metrics

    def _steps(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """The values and rewards of the steps that a decision counts for; it is paid at the last of them."""
        assert sample.old_values is not None
        values = sample.old_values.cpu().float()
        if self.config.gae_level == "turn":
            values = values[:1]
        rewards = torch.zeros_like(values)
        rewards[-1] = sample.decision.reward
        return values, rewards

    def _parts(self, streams: Sequence[Sequence[Sample]]) -> dict[str, Tensor]:
        """Which streams each part of the policy learns from, [streams]: parts have nothing to do with each other."""
        names = list(policy_parts(self.policy))
        if names == [""]:
            return {"": torch.ones(len(streams), dtype=torch.bool)}
        agents = [stream[0].decision.agent for stream in streams]
        return {name: torch.tensor([agent == name for agent in agents]) for name in names if name in agents}

    def _bootstrap(self, trajectories: Sequence[Trajectory]) -> Tensor:
        """The value after the end of each stream: 0 unless a limit cut it off, [streams]."""
        ends = [(stream[-1], t.final_observations) for t in trajectories for stream in t.streams()]
        cut = [place for place, (last, final) in enumerate(ends) if last.agent in final]
        # The choice is only there to be evaluated: a state's value is the one before its first draw.
        beyond = [self.policy.moved(last, final[last.agent]) for last, final in (ends[place] for place in cut)]
        bootstrap = torch.zeros(len(ends))
        with torch.no_grad(), self.policy.training_mode(False):
            for place, (_, values) in zip(cut, self._updater.evaluate(beyond), strict=True):
                assert values is not None
                bootstrap[place] = values[0]
        return bootstrap

    def _rated_apart(self, part: TrainablePolicy) -> dict[str, Any]:
        rate = self.config.value_learning_rate
        return {} if rate is None else {"apart": part.value_parameters(), "apart_rate": rate}

    def _validate(self) -> None:
        required = self.environment.discount
        if required is not None and self.config.gamma != required:
            raise ReasonEnvsError(
                f"algo.gamma={self.config.gamma}: the rewards of {type(self.environment).__name__} only mean what they "
                f"say under a discount of {required}; set algo.gamma={required}."
            )


def _laid_out(streams: list[Tensor]) -> Tensor:
    """One row a stream, zero where it ends: [streams, longest]."""
    return pad_sequence(streams, batch_first=True)


def _write(stream: Sequence[Sample], steps: Sequence[int], advantages: Tensor, returns: Tensor) -> None:
    """Cut a stream's row into its decisions' steps; the advantage of a single step is that of every token."""
    rest = len(advantages) - sum(steps)
    cuts = [row.split([*steps, rest]) for row in (advantages, returns)]
    for sample, advantage, target in zip(stream, *(cut[:-1] for cut in cuts), strict=True):
        sample.advantage, sample.returns = advantage.expand(len(sample.decision.choice.token_ids)), target


def _normalised(advantages: Tensor, mask: Tensor) -> Tensor:
    valid = advantages[mask]
    if not _vary(valid):
        return torch.zeros_like(advantages)
    return torch.where(mask, (advantages - valid.mean()) / (valid.std(correction=0) + 1e-8), 0.0)


def _explained(values: Tensor, returns: Tensor) -> float:
    """Share of the returns' variance that the values explain; not a number where the returns are all equal."""
    return float(1 - (returns - values).var(correction=0) / returns.var(correction=0)) if _vary(returns) else math.nan


def _vary(numbers: Tensor) -> bool:
    """Whether numbers differ by more than rounding, which dividing by their spread would blow up to any size."""
    return bool(numbers.max() - numbers.min() > EQUAL * numbers.abs().max())
