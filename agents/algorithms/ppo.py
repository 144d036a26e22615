"""PPO: proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) with a learned value function.

Episodes are independent. Generalised advantage estimation (arXiv 1506.02438) runs over each stream: the decisions of
one agent in an episode. At the token level each token is a step, and the last token of a decision gets the reward. At
the turn level each decision is a step with one value, that of the state before its first token (for a language policy:
at the last token of its prompt), and all of its tokens get its advantage. Both levels agree for policies whose choice
is a single action. Departures from the paper, each an option: advantages are normalised over the whole batch of a
training step, and the passes can end early by the KL divergence.
"""

import math
from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from agents.advantages import gae
from agents.algorithms.config import check_discount
from agents.algorithms.learner import Learner
from agents.algorithms.options import PPOConfig
from agents.algorithms.policy_loss import LossInputs, penalties, policy_loss
from agents.algorithms.sample import Sample, SampledTrajectory, masked_mean
from agents.losses import aggregate, value_loss
from agents.policies.base import TrainablePolicy

EQUAL = 1e-6
"""Advantages or returns that differ by at most this share of the largest one count as equal up to rounding."""


class PPO(Learner):
    """Generalised advantages on rewards and values; clipped updates of policy and values over several passes."""

    config: PPOConfig
    uses_values = True

    def loss(self, inputs: LossInputs, config: PPOConfig) -> tuple[Tensor, dict[str, float]]:
        """Add the value loss to the policy loss and its penalties."""
        values, old, returns, mask = inputs.values, inputs.old_values, inputs.returns, inputs.value_mask
        assert values is not None
        assert old is not None
        assert returns is not None
        assert mask is not None
        loss, metrics = policy_loss(inputs, config)
        terms, more = penalties(inputs, config)
        of_values = value_loss(values, old, returns, mask, config.value_clip, inputs.value_denominator)
        error = aggregate((values.detach() - returns).square() / 2, mask, denominator=inputs.value_denominator)
        # Metrics of micro-batches are averaged over tokens: this factor makes their average the mini-batch's mean.
        more["value_loss"] = float(error) * inputs.tokens / float(inputs.mask.sum())
        more["entropy"] = masked_mean(inputs.entropy, inputs.mask)
        return loss + (config.value_coef * of_values + terms), {**metrics, **more}

    def credit(self, trajectories: Sequence[SampledTrajectory]) -> tuple[list[Sample], dict[str, float]]:
        """Set advantages, one number per token, and returns, one per step of the estimation."""
        streams = [stream for t in trajectories for stream in t.streams()]
        steps = [[self._steps(s) for s in stream] for stream in streams]
        padded = partial(pad_sequence, batch_first=True)  # zeros after the end of a stream, [streams, longest]
        values = padded([torch.cat([value for value, _ in stream]) for stream in steps])
        rewards = padded([torch.cat([reward for _, reward in stream]) for stream in steps])
        mask = padded([torch.ones(sum(len(value) for value, _ in stream)) for stream in steps]).bool()
        gamma, lam = self.config.gamma, self.config.lam
        # In float64, so that the rounding errors of thousands of tokens do not add up.
        found = gae(rewards.double(), values.double(), mask, gamma, lam, self._bootstrap(trajectories))
        advantages, returns = (part.float() for part in found)
        metrics: dict[str, float] = {}
        for suffix, rows in self._rows_by_policy(streams).items():
            valid = mask & rows[:, None]
            metrics[f"explained_variance{suffix}"] = _explained(values[valid], returns[valid])
            metrics[f"advantage_std{suffix}"] = float(advantages[valid].std(correction=0))
            if self.config.normalise_advantages:
                own = advantages[valid]
                centred = advantages - own.mean() if _vary(own) else torch.zeros_like(advantages)
                advantages = torch.where(valid, centred / (own.std(correction=0) + 1e-8), advantages)
        for stream, mine, row, targets in zip(streams, steps, advantages, returns, strict=True):
            _write(stream, [len(value) for value, _ in mine], row, targets)
        return [sample for stream in streams for sample in stream], metrics

    def validate(self) -> None:
        """Check that ``gamma`` is the discount factor that the environment's rewards are designed for."""
        check_discount(self.config.gamma, self.environment)

    def value_parameter_group(self, policy: TrainablePolicy) -> tuple[Iterable[nn.Parameter], float] | None:
        """Return the policy's value parameters if ``value_learning_rate`` is set."""
        rate = self.config.value_learning_rate
        return None if rate is None else (policy.value_parameters(), rate)

    def _steps(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """Return values and rewards of the steps that a decision counts for; its last step gets the reward."""
        assert sample.old_values is not None
        values = sample.old_values.cpu().float()
        if self.config.gae_level == "turn":
            values = values[:1]
        rewards = torch.zeros_like(values)
        rewards[-1] = sample.reward
        return values, rewards

    def _rows_by_policy(self, streams: Sequence[Sequence[Sample]]) -> dict[str, Tensor]:
        """Return which streams each separately trained policy learns from, [streams], by the suffix of its metrics."""
        if not self.policy.roles:
            return {"": torch.ones(len(streams), dtype=torch.bool)}
        agents = [stream[0].decision.agent for stream in streams]
        return {
            f"/{role}": torch.tensor([agent == role for agent in agents])
            for role in self.policy.roles
            if role in agents
        }

    def _bootstrap(self, trajectories: Sequence[SampledTrajectory]) -> Tensor:
        """Return the value after the end of each stream, 0 unless a limit truncated it, [streams]."""
        ends = [(s[-1].decision, t.trajectory.final_observations) for t in trajectories for s in t.streams()]
        cut = [place for place, (last, final) in enumerate(ends) if last.agent in final]
        # A state's value is read before its first token, so any token serves as the choice.
        beyond = [self.policy.at_observation(last, final[last.agent]) for last, final in (ends[place] for place in cut)]
        bootstrap = torch.zeros(len(ends))
        for place, (_, values) in zip(cut, self.policy_update.evaluate(beyond), strict=True):
            assert values is not None
            bootstrap[place] = values[0]
        return bootstrap


def _write(stream: Sequence[Sample], steps: Sequence[int], advantages: Tensor, returns: Tensor) -> None:
    """Cut a stream's row into its decisions; a decision of a single step has one advantage for all of its tokens."""
    cuts = [row.split([*steps, len(advantages) - sum(steps)]) for row in (advantages, returns)]
    for sample, advantage, target in zip(stream, *(cut[:-1] for cut in cuts), strict=True):
        sample.advantage, sample.returns = advantage.expand(len(sample.decision.choice.token_ids)), target


def _explained(values: Tensor, returns: Tensor) -> float:
    """Return the share of the returns' variance that the values explain; NaN if all returns are equal."""
    return float(1 - (returns - values).var(correction=0) / returns.var(correction=0)) if _vary(returns) else math.nan


def _vary(numbers: Tensor) -> bool:
    """Return whether numbers differ by more than rounding; dividing by a spread of rounding errors has no meaning."""
    return bool(numbers.max() - numbers.min() > EQUAL * numbers.abs().max())
