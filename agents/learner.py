"""What every learner does: collect episodes, turn rewards into advantages, update the policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from agents.losses import AGGREGATIONS, KL_KINDS, LEVELS, check_clips, kl_estimate
from agents.optimizer import Optimizer, OptimizerConfig
from agents.policies.base import TrainablePolicy
from agents.policies.roles import policy_parts
from agents.role_update import RoleOptimizer, RoleUpdate
from agents.rollout import Episode, grouped, play
from agents.trajectory import Trajectory
from agents.update import PolicyUpdate, Sample
from agents.validation import check_least
from reason_envs.core import Environment, derive_seed
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.tasks.base import TaskSet

LEAST = {
    **dict.fromkeys(("tasks_per_step", "samples_per_task", "minibatch_size", "epochs_per_batch"), 1),
    **dict.fromkeys(("micro_batch_tokens", "micro_batch_size", "horizon"), 1),
    **dict.fromkeys(("log_prob_micro_batch_size", "reference_micro_batch_size"), 1),
    **dict.fromkeys(("kl_coef", "kl_reward_coef", "entropy_coef", "correction_cap", "target_kl"), 0),
}
"""The smallest value of an option."""


@dataclass
class TemperatureSchedule:
    """A sampling temperature that moves linearly over the first training steps."""

    enabled: bool = False
    """Sample the training episodes by it instead of at ``policy.temperature``."""
    initial: float = 1.0
    """At the first step."""
    final: float = 1.0
    """From ``warmup_steps`` on."""
    warmup_steps: int = 100
    """Steps from the one to the other."""

    def __post_init__(self) -> None:
        check_least(self, "algo.temperature_schedule.", {"warmup_steps": 1})
        for name in ("initial", "final"):
            if getattr(self, name) <= 0:
                raise ReasonEnvsError(
                    f"algo.temperature_schedule.{name}={getattr(self, name)}: training needs a temperature above 0."
                )

    def at(self, step: int) -> float:
        """Return the temperature of a training step (from 0)."""
        return self.initial + (self.final - self.initial) * min(1.0, step / self.warmup_steps)


@dataclass
class LearnerConfig:
    """Options that every policy-gradient learner shares."""

    tasks_per_step: int = 32
    """Tasks of a training step."""
    samples_per_task: int = 1
    """Episodes of each task."""
    minibatch_size: int | None = None
    """Decisions of an optimizer step; ``None`` takes all of a training step's as one batch (fully on-policy). Where
    every episode takes the same number of decisions a number of one's own must divide theirs; elsewhere the last
    mini-batch of a pass is smaller, and more than there are take them all. Roles with weights of their own have
    optimizer steps of their own."""
    epochs_per_batch: int = 1
    """Passes over each batch."""
    target_kl: float | None = None
    """End the passes once a mini-batch is further than 1.5 times this (KL, nats) from the sampling weights."""
    micro_batch_tokens: int = 16384
    """Most tokens (padding included) of one forward and backward pass; lower it when memory runs out."""
    micro_batch_size: int | None = None
    """Most decisions of one forward and backward pass, at most ``minibatch_size``; the loss does not depend on it."""
    log_prob_micro_batch_size: int | None = None
    """Most decisions of one pass without gradients, at the weights that sampled; ``None``: ``micro_batch_size``."""
    reference_micro_batch_size: int | None = None
    """Most decisions of one pass of the reference; ``None``: ``micro_batch_size``."""
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
    temperature_schedule: TemperatureSchedule = field(default_factory=TemperatureSchedule)
    """Sampling temperature by training step; evaluations keep ``policy.temperature``."""
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
        if self.minibatch_size and self.micro_batch_size and self.micro_batch_size > self.minibatch_size:
            raise ReasonEnvsError(
                f"algo.micro_batch_size={self.micro_batch_size} must not be above algo.minibatch_size="
                f"{self.minibatch_size}, of which it is a part: lower it."
            )


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
    updater: type[PolicyUpdate] = PolicyUpdate
    """What turns samples into new weights."""
    uses_values = False
    """Whether credit needs the policy's state values."""

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
        if self.uses_values:
            policy.prepare_values()
        self._validate()
        _check_minibatches(config, environment.decisions_per_episode)
        self.optimizer, self._updater = self._build_update(total_steps)
        if self._uses_reference:
            policy.prepare_reference()

    def _build_update(self, total_steps: int) -> tuple[Optimizer | RoleOptimizer, PolicyUpdate | RoleUpdate]:
        """Build optimizer and update; those of a policy with several parts are each part's own."""
        optimizers, updates = {}, {}
        for name, part in policy_parts(self.policy).items():
            optimizers[name] = Optimizer(
                self.config.optimizer,
                part.parameters(),
                total_steps,
                scale_loss=part.scales_loss,
                device_type=part.device.type,
                **self._rated_apart(part),
            )
            updates[name] = self.updater(self.config, part, optimizers[name], self.seed)
        if "" in updates:
            return optimizers[""], updates[""]
        return RoleOptimizer(optimizers), RoleUpdate(updates)

    def _rated_apart(self, part: TrainablePolicy) -> dict[str, Any]:
        """Return the optimizer's options for parameters with a learning rate of their own: of most learners, none."""
        return {}

    async def collect(self, step: int) -> list[Trajectory]:
        """Play the step's episodes: a pure function of (seed, step, weights)."""
        return await play(self.environment, self.policy, self.plan(step), **self.acting(step))

    def acting(self, step: int) -> dict[str, Any]:
        """Return how the policy draws in a step, where that is not its own sampling."""
        schedule = self.config.temperature_schedule
        if not schedule.enabled:
            return {}
        return {"sampling": replace(self.policy.sampling, temperature=schedule.at(step))}

    def plan(self, step: int) -> list[Episode]:
        """Plan ``samples_per_task`` episodes of each of the step's tasks."""
        first = step * self.config.tasks_per_step
        tasks = [self.tasks.ordered(first + i, self.seed) for i in range(self.config.tasks_per_step)]
        return grouped(tasks, self.config.samples_per_task, derive_seed(self.seed, "train", step))

    @abstractmethod
    def credit(
        self, trajectories: Sequence[Trajectory], samples: Mapping[int, Sample]
    ) -> tuple[list[Sample], dict[str, float]]:
        """Write each decision's credit into its sample.

        Args:
            trajectories: the step's episodes.
            samples: the sample of every decision ``d``, under ``id(d)``.

        Returns:
            The samples to train on, and metrics.
        """

    def update(self, trajectories: Sequence[Trajectory], step: int) -> dict[str, float]:
        """Update the policy on a step's episodes and return metrics."""
        self.optimizer.training_step = step
        samples = {id(d): Sample(d) for t in trajectories for d in t.decisions}
        self._fix_log_probs(list(samples.values()))
        metrics = self._penalise_kl(list(samples.values()))
        credited, credit_metrics = self.credit(trajectories, samples)
        return {**metrics, **credit_metrics, **self._updater.run(credited, step)}

    @property
    def _uses_reference(self) -> bool:
        return self.config.kl_coef != 0 or self.config.kl_reward_coef != 0

    def _updates_twice(self, decisions: int) -> bool:
        """Whether some forward of the update is no longer at the weights that sampled."""
        return self.config.epochs_per_batch > 1 or (self.config.minibatch_size or decisions) < decisions

    def _fix_log_probs(self, samples: Sequence[Sample]) -> None:
        """Compute old and reference log-probabilities, and values, where they are needed."""
        decisions = [sample.decision for sample in samples]
        if self.uses_values or self.config.kl_reward_coef or self._updates_twice(len(decisions)):
            with torch.no_grad(), self.policy.training_mode(False):
                evaluated = self._updater.evaluate(decisions, self.config.log_prob_micro_batch_size)
                for sample, (log_probs, values) in zip(samples, evaluated, strict=True):
                    sample.old, sample.old_values = log_probs, values
        if self._uses_reference:
            with self.policy.reference():
                evaluated = self._updater.evaluate(decisions, self.config.reference_micro_batch_size)
                for sample, (log_probs, _) in zip(samples, evaluated, strict=True):
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

    def _validate(self) -> None:  # noqa: B027  (most learners take every policy and environment)
        """Refuse options that do not fit the policy or the environment."""


def _check_minibatches(config: LearnerConfig, decisions_per_episode: int | None) -> None:
    """Refuse a mini-batch that leaves a remainder, whose smaller update would weigh as much as a whole one.

    A learner's own default is no miscount: it takes what there is.
    """
    size = config.minibatch_size
    if size is None or size == type(config).minibatch_size or decisions_per_episode is None:
        return
    decisions = config.tasks_per_step * config.samples_per_task * decisions_per_episode
    if decisions % size:
        raise ReasonEnvsError(
            f"algo.minibatch_size={size} must divide the {decisions} responses of a training step (algo.tasks_per_step="
            f"{config.tasks_per_step} x algo.samples_per_task={config.samples_per_task}"
            f"{'' if decisions_per_episode == 1 else f' x {decisions_per_episode} decisions'}): it counts responses, "
            "not problems. Null takes all of them."
        )
