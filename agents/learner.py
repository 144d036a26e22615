"""What every learner does: collect episodes, turn rewards into advantages, update the policy."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.batch import micro_batches
from agents.losses import aggregate, clipped_policy_loss, importance_correction, kl_estimate
from agents.optimizer import Optimizer, OptimizerConfig
from agents.policies.base import TrainablePolicy
from agents.trajectory import Decision, Trajectory
from reason_envs.core import Environment, derive_seed
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.tasks.base import TaskSet


@dataclass
class LearnerConfig:
    """Options that every policy-gradient learner shares."""

    tasks_per_step: int = 32
    """Tasks of a training step."""
    minibatch_size: int | None = None
    """Decisions of an optimizer step; ``None`` takes a training step's decisions as one batch (fully on-policy)."""
    epochs_per_batch: int = 1
    """Passes over each batch."""
    micro_batch_tokens: int = 16384
    """Most tokens (padding included) of one forward and backward pass; lower it when memory runs out."""
    micro_batch_size: int | None = None
    """Most decisions of one forward and backward pass; the loss does not depend on it."""
    clip_low: float = 0.2
    """Ratios below ``1 - clip_low`` are clipped."""
    clip_high: float = 0.2
    """Ratios above ``1 + clip_high`` are clipped."""
    dual_clip: float | None = None
    """Bound on the loss at negative advantages (Ye et al. 2020), above 1; ``None`` is off."""
    importance: str = "token"
    """Ratios by ``token`` (PPO, GRPO) or ``sequence`` (GSPO)."""
    aggregation: str = "token_mean"
    """``token_mean``, ``seq_mean_token_mean``, ``seq_mean_token_sum`` or ``horizon``."""
    horizon: int | None = None
    """Fixed length that ``aggregation=horizon`` divides token sums by."""
    kl_coef: float = 0.0
    """Coefficient of the KL to the reference in the loss."""
    kl_kind: str = "k3"
    """Estimator of that KL: ``k1``, ``k2`` or ``k3`` (low variance)."""
    kl_reward_coef: float = 0.0
    """Coefficient of the KL that is summed over the response and subtracted from its reward."""
    kl_reward_kind: str = "k1"
    """Estimator of that KL."""
    entropy_coef: float = 0.0
    """Coefficient of an entropy bonus."""
    mask_truncated: bool = False
    """Leave responses that hit ``max_tokens`` out of the loss."""
    correction: str = "auto"
    """Importance weights for the gap between sampler and learner: ``off``, ``token``, ``sequence``, or ``auto``
    (``token`` when the engine is another program)."""
    correction_cap: float = 2.0
    """Weights are truncated there."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Learning rate, schedule, clipping."""


class Learner(ABC):
    """Collects with the policy, assigns credit, and updates.

    Args:
        config: options.
        policy: what is trained.
        environment: the prototype environment to play in.
        tasks: training tasks.
        total_steps: training steps of the whole run.
        seed: the run's seed.
    """

    config: LearnerConfig

    def __init__(
        self,
        config: LearnerConfig,
        policy: TrainablePolicy,
        environment: Environment,
        tasks: TaskSet,
        *,
        total_steps: int,
        seed: int,
    ) -> None:
        self.config = config
        self.policy = policy
        self.environment = environment
        self.tasks = tasks
        self.seed = seed
        self._validate()
        self.optimizer = Optimizer(
            config.optimizer,
            policy.parameters(),
            total_steps * self.updates_per_step,
            scale_loss=policy.scales_loss,
            device_type=policy.device.type,
        )
        if self._uses_reference:
            policy.prepare_reference()

    @property
    @abstractmethod
    def decisions_per_step(self) -> int:
        """Decisions that one training step collects (for single-turn environments)."""

    @abstractmethod
    async def collect(self, step: int) -> list[Trajectory]:
        """Play the episodes of a training step: a pure function of (seed, step, weights)."""

    @abstractmethod
    def advantages(self, trajectories: Sequence[Trajectory]) -> tuple[list[Decision], Tensor, dict[str, float]]:
        """Return the decisions to train on, their advantages [N], and metrics."""

    @property
    def updates_per_step(self) -> int:
        """Optimizer steps that a training step takes."""
        size = self.config.minibatch_size or self.decisions_per_step
        return self.config.epochs_per_batch * math.ceil(self.decisions_per_step / size)

    def update(self, trajectories: Sequence[Trajectory], step: int) -> dict[str, float]:
        """Update the policy on a step's episodes and return metrics."""
        decisions = [d for t in trajectories for d in t.decisions]
        fixed = self._fixed_log_probs(decisions)
        metrics = self._penalise_kl(decisions, fixed)
        trained, advantages, credit_metrics = self.advantages(trajectories)
        metrics |= credit_metrics
        place = {id(d): i for i, d in enumerate(decisions)}
        rows = _Rows(trained, advantages, [fixed.row(place[id(d)]) for d in trained])
        meter = _Meter()
        for update in range(self.config.epochs_per_batch):
            for minibatch in self._minibatches(len(trained), step, update):
                metrics |= self._optimize(rows, minibatch, meter, (step, update))
        return metrics | meter.means()

    # --- log-probabilities that stay fixed during the update

    @property
    def _uses_reference(self) -> bool:
        return self.config.kl_coef != 0 or self.config.kl_reward_coef != 0

    def _fixed_log_probs(self, decisions: Sequence[Decision]) -> _Fixed:
        """Old and reference log-probabilities, where the configuration needs them."""
        old = ref = None
        if self.config.kl_reward_coef or self.updates_per_step > 1:
            with torch.no_grad(), self.policy.training_mode(False):
                old = self._log_probs(decisions)
        if self._uses_reference:
            with self.policy.reference():
                ref = self._log_probs(decisions)
        return _Fixed(old, ref)

    def _log_probs(self, decisions: Sequence[Decision]) -> list[Tensor]:
        """Log-probabilities of every decision's tokens, a tensor [T] each."""
        result: list[Tensor] = [torch.empty(0)] * len(decisions)
        for indices in self._micro_batches(decisions):
            log_probs = self.policy.evaluate([decisions[i] for i in indices]).log_probs
            for row, i in enumerate(indices):
                result[i] = log_probs[row, : len(decisions[i].choice.token_ids)]
        return result

    def _penalise_kl(self, decisions: Sequence[Decision], fixed: _Fixed) -> dict[str, float]:
        """Subtract the coefficient times the response's summed KL from each decision's reward."""
        if not self.config.kl_reward_coef:
            return {}
        assert fixed.old is not None
        assert fixed.ref is not None
        total = 0.0
        for decision, old, ref in zip(decisions, fixed.old, fixed.ref, strict=True):
            kl = float(kl_estimate(old, ref, kind=self.config.kl_reward_kind).sum())
            decision.reward -= self.config.kl_reward_coef * kl
            total += kl
        return {"kl_in_reward": total / len(decisions)}

    # --- the update itself

    def _minibatches(self, count: int, step: int, update: int) -> list[np.ndarray]:
        """Cut a shuffled pass into mini-batches."""
        size = self.config.minibatch_size or count
        generator = np.random.default_rng(derive_seed(self.seed, "minibatches", step, update))
        order = generator.permutation(count)
        return [order[start : start + size] for start in range(0, count, size)]

    def _micro_batches(self, decisions: Sequence[Decision]) -> list[list[int]]:
        config = self.config
        return micro_batches(self.policy.lengths(decisions), config.micro_batch_tokens, config.micro_batch_size)

    def _optimize(
        self, rows: _Rows, minibatch: np.ndarray, meter: _Meter, address: tuple[int, int]
    ) -> dict[str, float]:
        """One optimizer step over a mini-batch, cut into micro-batches."""
        chosen = [int(i) for i in minibatch if self._in_loss(rows.decisions[i])]
        denominator = self._denominator([rows.decisions[i] for i in chosen])
        working = [i for i in chosen if self._has_gradient(rows, i)]
        for cut, indices in enumerate(self._micro_batches([rows.decisions[i] for i in working])):
            picked = [working[i] for i in indices]
            with ExitStack() as stack:
                stack.enter_context(torch.random.fork_rng())
                torch.manual_seed(derive_seed(self.seed, "dropout", *address, cut))
                stack.enter_context(self.policy.training_mode(True))
                loss = self._loss(rows, picked, denominator, meter)
                self._check_finite(loss, address)
                self.optimizer.backward(loss)
        return self.optimizer.step() if working else {"grad_norm": 0.0, "learning_rate": self.optimizer.learning_rate}

    def _loss(self, rows: _Rows, picked: list[int], denominator: float, meter: _Meter) -> Tensor:
        """The micro-batch's share of the mini-batch loss."""
        config = self.config
        decisions = [rows.decisions[i] for i in picked]
        out = self.policy.evaluate(decisions, entropy_gradient=config.entropy_coef != 0)
        mask, width = out.mask, out.mask.shape[1]
        old = out.log_probs.detach()
        if rows.fixed[picked[0]].old is not None:
            old = _stack([rows.fixed[i].old for i in picked], width).to(old)
        sampler = _sampler_log_probs(decisions, width)
        correction = None
        if sampler is not None:
            sampler = sampler.to(old)
            meter.add_gap(old, sampler, mask)
            if config.correction in ("token", "sequence"):
                correction = importance_correction(
                    old, sampler, mask, level=config.correction, cap=config.correction_cap
                )
        shared = {"how": config.aggregation, "horizon": config.horizon, "denominator": denominator}
        loss, metrics = clipped_policy_loss(
            out.log_probs,
            old,
            rows.advantages[picked].to(old),
            mask,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            dual_clip=config.dual_clip,
            importance=config.importance,
            aggregation=config.aggregation,
            correction=correction,
            horizon=config.horizon,
            denominator=denominator,
        )
        if rows.fixed[picked[0]].ref is not None:
            ref = _stack([rows.fixed[i].ref for i in picked], width).to(old)
            kl = kl_estimate(out.log_probs, ref, kind=config.kl_kind)
            loss = loss + config.kl_coef * aggregate(kl, mask, **shared)
            meter.add("kl", kl.detach(), mask)
        if config.entropy_coef:
            loss = loss - config.entropy_coef * aggregate(out.entropy, mask, **shared)
        meter.add("entropy", out.entropy.detach(), mask)
        meter.add_sums(float(loss.detach()), metrics, mask)
        return loss

    def _in_loss(self, decision: Decision) -> bool:
        return not (self.config.mask_truncated and decision.choice.finish_reason == "length")

    def _has_gradient(self, rows: _Rows, index: int) -> bool:
        """Whether a decision moves the weights at all; one without advantage, KL or bonus is not computed."""
        return bool(self.config.kl_coef or self.config.entropy_coef or rows.advantages[index] != 0)

    def _denominator(self, decisions: Sequence[Decision]) -> float:
        """Tokens or sequences of the whole mini-batch, so that the loss does not depend on how it is cut."""
        if self.config.aggregation == "token_mean":
            return float(max(1, sum(len(d.choice.token_ids) for d in decisions)))
        return float(max(1, len(decisions)))

    def _check_finite(self, loss: Tensor, address: tuple[int, int]) -> None:
        if not torch.isfinite(loss):
            raise ReasonEnvsError(
                f"The loss is {float(loss)} at step {address[0]}: the weights were left as they are and the last "
                "checkpoint is good. Lower algo.optimizer.learning_rate, or use policy.precision=float32."
            )

    def _validate(self) -> None:
        config = self.config
        for name, value, valid in (
            ("algo.importance", config.importance, ("token", "sequence")),
            ("algo.aggregation", config.aggregation, AGGREGATIONS),
            ("algo.kl_kind", config.kl_kind, KL_KINDS),
            ("algo.kl_reward_kind", config.kl_reward_kind, KL_KINDS),
            ("algo.correction", config.correction, ("auto", "off", "token", "sequence")),
        ):
            if value not in valid:
                raise unknown_name(name, value, valid)
        if (config.aggregation == "horizon") != (config.horizon is not None):
            raise ReasonEnvsError(
                f"algo.horizon={config.horizon} with algo.aggregation={config.aggregation}: the horizon is needed for, "
                "and only for, aggregation=horizon."
            )
        size = config.minibatch_size
        if size is not None and not 1 <= size <= self.decisions_per_step:
            raise ReasonEnvsError(
                f"algo.minibatch_size={size} must lie between 1 and the {self.decisions_per_step} decisions of a step."
            )


AGGREGATIONS = ("token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "horizon")
KL_KINDS = ("k1", "k2", "k3")


@dataclass(frozen=True)
class _FixedRow:
    old: Tensor | None
    ref: Tensor | None


@dataclass(frozen=True)
class _Fixed:
    old: list[Tensor] | None
    ref: list[Tensor] | None

    def row(self, index: int) -> _FixedRow:
        return _FixedRow(self.old[index] if self.old else None, self.ref[index] if self.ref else None)


@dataclass(frozen=True)
class _Rows:
    decisions: list[Decision]
    advantages: Tensor
    fixed: list[_FixedRow]


class _Meter:
    """Adds up token sums over micro-batches, for means over all of them."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._tokens: dict[str, float] = {}
        self._loss = 0.0
        self._max_ratio = 0.0

    def add(self, name: str, values: Tensor, mask: Tensor) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + float(values[mask].sum())
        self._tokens[name] = self._tokens.get(name, 0.0) + float(mask.sum())

    def add_gap(self, learner: Tensor, sampler: Tensor, mask: Tensor) -> None:
        """The gap between sampler and learner: KL(sampler || learner) by k3, and the largest ratio."""
        self.add("sampler_kl", kl_estimate(sampler, learner, kind="k3"), mask)
        self._max_ratio = max(self._max_ratio, float((learner - sampler)[mask].abs().max().exp()))

    def add_sums(self, loss: float, metrics: dict[str, Any], mask: Tensor) -> None:
        self._loss += loss
        count = float(mask.sum())
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value) * count
            self._tokens[name] = self._tokens.get(name, 0.0) + count

    def means(self) -> dict[str, float]:
        means = {name: total / max(1.0, self._tokens[name]) for name, total in self._sums.items()}
        return {"loss": self._loss, "kl": 0.0, "sampler_max_ratio": self._max_ratio, **means}


def _stack(rows: Sequence[Any], width: int) -> Tensor:
    stacked = torch.zeros(len(rows), width)
    for i, row in enumerate(rows):
        stacked[i, : len(row)] = row
    return stacked


def _sampler_log_probs(decisions: Sequence[Decision], width: int) -> Tensor | None:
    rows = [d.choice.log_probs for d in decisions]
    if any(row is None for row in rows):
        return None
    return _stack([torch.tensor(row) for row in rows], width)
