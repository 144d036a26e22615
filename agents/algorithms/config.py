"""Options that every policy-gradient learner shares."""

from __future__ import annotations

from dataclasses import dataclass, field

from agents.algorithms.optimizer import OptimizerConfig
from agents.losses import AGGREGATIONS, KL_KINDS, LEVELS, check_clips
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.validation import at_least

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
        at_least(self, warmup_steps=1)
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
        at_least(self, **LEAST)
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


def check_minibatches(config: LearnerConfig, decisions_per_episode: int | None) -> None:
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
