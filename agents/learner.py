"""What every learner does: collect episodes, turn rewards into advantages, update the policy."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from agents.losses import AGGREGATIONS, KL_KINDS, LEVELS, check_clips, kl_estimate
from agents.optimizer import Optimizer, OptimizerConfig
from agents.policies.base import TrainablePolicy
from agents.trajectory import Decision, Trajectory
from agents.update import PolicyUpdate, Sample
from agents.validation import check_least
from reason_envs.core import Environment
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.tasks.base import TaskSet

LEAST = {
    **dict.fromkeys(("tasks_per_step", "epochs_per_batch", "micro_batch_tokens", "micro_batch_size", "horizon"), 1),
    **dict.fromkeys(("kl_coef", "kl_reward_coef", "entropy_coef", "correction_cap"), 0),
}
"""The smallest value of an option."""


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
    """Importance weights for the gap between sampler and learner: ``token``, ``sequence``, ``off``, or ``auto``
    (``token`` where another program samples, such as vLLM, and gives log-probabilities; otherwise off)."""
    correction_cap: float = 2.0
    """Weights are truncated there."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Learning rate, schedule, clipping."""

    def __post_init__(self) -> None:
        check_least(self, "algo.", LEAST)
        for name, valid in (
            ("importance", LEVELS),
            ("aggregation", AGGREGATIONS),
            ("kl_kind", KL_KINDS),
            ("kl_reward_kind", KL_KINDS),
            ("correction", ("auto", "off", *LEVELS)),
        ):
            if getattr(self, name) not in valid:
                raise unknown_name(f"algo.{name}", getattr(self, name), valid)
        if (self.aggregation == "horizon") != (self.horizon is not None):
            raise ReasonEnvsError(
                f"algo.horizon={self.horizon} with algo.aggregation={self.aggregation}: the horizon is needed for, and "
                "only for, aggregation=horizon."
            )
        check_clips(self.clip_low, self.clip_high, self.dual_clip)


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
        self._updater = PolicyUpdate(config, policy, self.optimizer, seed)
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
        samples = {id(d): Sample(d) for t in trajectories for d in t.decisions}
        self._fix_log_probs(list(samples.values()))
        metrics = self._penalise_kl(list(samples.values()))
        decisions, advantages, credit_metrics = self.advantages(trajectories)
        for decision, advantage in zip(decisions, advantages.tolist(), strict=True):
            samples[id(decision)].advantage = advantage
        return {**metrics, **credit_metrics, **self._updater.run([samples[id(d)] for d in decisions], step)}

    @property
    def _uses_reference(self) -> bool:
        return self.config.kl_coef != 0 or self.config.kl_reward_coef != 0

    def _updates_twice(self, decisions: int) -> bool:
        """Whether some forward of the update is no longer at the weights that sampled."""
        return self.config.epochs_per_batch > 1 or (self.config.minibatch_size or decisions) < decisions

    def _fix_log_probs(self, samples: Sequence[Sample]) -> None:
        """Compute old and reference log-probabilities, where the configuration needs them."""
        decisions = [sample.decision for sample in samples]
        if self.config.kl_reward_coef or self._updates_twice(len(decisions)):
            with torch.no_grad(), self.policy.training_mode(False):
                for sample, log_probs in zip(samples, self._updater.log_probs(decisions), strict=True):
                    sample.old = log_probs
        if self._uses_reference:
            with self.policy.reference():
                for sample, log_probs in zip(samples, self._updater.log_probs(decisions), strict=True):
                    sample.reference = log_probs

    def _penalise_kl(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Subtract the coefficient times the response's summed KL from each decision's reward."""
        if not self.config.kl_reward_coef:
            return {}
        total = 0.0
        for sample in samples:
            assert sample.old is not None
            assert sample.reference is not None
            kl = float(kl_estimate(sample.old, sample.reference, self.config.kl_reward_kind).sum())
            sample.decision.reward -= self.config.kl_reward_coef * kl
            total += kl
        return {"kl_in_reward": total / len(samples)}

    def _validate(self) -> None:
        size = self.config.minibatch_size
        if size is not None and not 1 <= size <= self.decisions_per_step:
            raise ReasonEnvsError(
                f"algo.minibatch_size={size} must lie between 1 and the {self.decisions_per_step} decisions of a step."
            )
