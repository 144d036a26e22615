"""Options that every policy-gradient learner shares. Listing them does not import torch."""

from dataclasses import dataclass, field

from reason_envs.core import Environment
from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.validation import Checked, limited, one_of


@dataclass
class TemperatureSchedule(Checked):
    """A sampling temperature that changes linearly over the first training steps."""

    enabled: bool = False
    """Whether training episodes are sampled at the schedule's temperature instead of ``policy.temperature``."""
    initial: float = limited(1.0, above=0)
    """Sampling temperature of the first training step."""
    final: float = limited(1.0, above=0)
    """Sampling temperature after ``warmup_steps`` training steps."""
    warmup_steps: int = limited(100, at_least=1)
    """Number of training steps from the initial to the final temperature."""

    def at(self, step: int) -> float:
        """Return the temperature of a training step (from 0)."""
        return self.initial + (self.final - self.initial) * min(1.0, step / self.warmup_steps)


@dataclass
class OptimizerConfig(Checked):
    """AdamW with warm-up, a learning-rate schedule and gradient clipping."""

    learning_rate: float | None = limited(5e-5, at_least=0)
    """Peak learning rate. The default suits the embedded models. Null, the default of runs that train another model:
    1e-5 for 135 million parameters, falling with the square root of their number, and ten times as much with LoRA."""
    schedule: str = limited("constant", one_of=("constant", "linear", "cosine"))
    """Learning rate after the warm-up: ``constant``, or ``linear`` or ``cosine`` decay to 0 at the last step."""
    warmup_steps: int = limited(0, at_least=0)
    """Number of training steps of linear warm-up."""
    weight_decay: float = limited(0.0, at_least=0)
    """Decoupled weight decay of matrices; norms and biases never decay."""
    beta2: float = limited(0.999, at_least=0)
    """Decay rate of AdamW's second moment."""
    max_grad_norm: float = limited(1.0, at_least=0)
    """Maximum norm of the gradients, which are scaled down to it; 0 turns clipping off."""


@dataclass
class LearnerConfig(Checked):
    """Options that every policy-gradient learner shares."""

    tasks_per_step: int = limited(32, at_least=1)
    """Number of tasks per training step."""
    samples_per_task: int = limited(1, at_least=1)
    """Number of episodes per task."""
    minibatch_size: int | None = limited(None, at_least=1)
    """Number of decisions per optimizer step; ``None``: one optimizer step per training step (fully on-policy). If all
    episodes have the same number of decisions, the size must divide the decisions of a training step. Otherwise the
    last mini-batch of a pass is smaller. Roles with separate weights have separate mini-batches."""
    epochs_per_batch: int = limited(1, at_least=1)
    """Number of passes over the decisions of a training step."""
    target_kl: float | None = limited(None, at_least=0)
    """KL divergence from the sampling weights, in nats, that ends the passes over a batch early: they end once a
    mini-batch exceeds 1.5 times this value; ``None``: never."""
    micro_batch_tokens: int | None = limited(None, at_least=1)
    """Maximum number of tokens, padding included, per forward and backward pass; ``None``: 16,384, or less if the
    activations of a pass would take more than 2 GiB (on a GPU: half of its free memory). It is halved if memory runs
    out. The loss does not depend on it."""
    micro_batch_size: int | None = limited(None, at_least=1)
    """Maximum number of decisions per forward and backward pass; ``None``: only ``micro_batch_tokens`` limits a pass.
    The loss does not depend on it."""
    log_prob_micro_batch_size: int | None = limited(None, at_least=1)
    """Maximum number of decisions per pass without gradients; ``None``: the value of ``micro_batch_size``."""
    reference_micro_batch_size: int | None = limited(None, at_least=1)
    """Maximum number of decisions per pass of the reference policy; ``None``: the value of ``micro_batch_size``."""
    clip_low: float = limited(0.2, within=(0, 1))
    """Width of the clipping range below 1: probability ratios are clipped at ``1 - clip_low``."""
    clip_high: float = limited(0.2, at_least=0)
    """Width of the clipping range above 1: probability ratios are clipped at ``1 + clip_high``."""
    dual_clip: float | None = None
    """Upper bound of the loss at negative advantages, in multiples of the advantage (Ye et al. 2020); it must be above
    1; ``None``: no bound."""
    importance: str = "token"
    """Level of the probability ratios: ``token`` (PPO, GRPO) or ``sequence`` (GSPO)."""
    aggregation: str = "token_mean"
    """Aggregation of token losses: ``token_mean``, ``seq_mean_token_mean`` or ``seq_mean_token_sum`` (mean over
    responses of their token means or sums), or ``horizon`` (token sums divided by a fixed length)."""
    horizon: int | None = limited(None, at_least=1)
    """Length that divides token sums with ``aggregation=horizon``; ``None`` for all other aggregations."""
    kl_coef: float = limited(0.0, at_least=0)
    """Coefficient of the KL divergence from the reference policy in the loss; 0 turns it off."""
    kl_kind: str = "k3"
    """Estimator of the KL divergence in the loss: ``k1``, ``k2`` or ``k3`` (low variance)."""
    kl_reward_coef: float = limited(0.0, at_least=0)
    """Coefficient of the KL divergence (k1, summed over the response) that is subtracted from the reward; 0: none."""
    entropy_coef: float = limited(0.0, at_least=0)
    """Coefficient of the entropy bonus in the loss; 0 turns it off."""
    mask_truncated: bool = False
    """Whether responses that reached ``policy.max_tokens`` are left out of the loss."""
    correction: str = "auto"
    """Importance weights for the difference between the engine's and the learner's log-probabilities: ``token``,
    ``sequence``, ``off``, or ``auto`` (``token`` if another program such as vLLM samples and returns
    log-probabilities, otherwise off)."""
    correction_cap: float = limited(2.0, at_least=0)
    """Maximum importance weight of ``correction``; larger weights are reduced to it."""
    temperature_schedule: TemperatureSchedule = field(default_factory=TemperatureSchedule)
    """Sampling temperature by training step. Evaluations use ``policy.temperature``."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Options of the optimizer: learning rate, schedule and clipping."""

    def __post_init__(self) -> None:
        from agents.losses import AGGREGATIONS, KL_KINDS, LEVELS

        super().__post_init__()
        one_of(self, importance=LEVELS, aggregation=AGGREGATIONS, kl_kind=KL_KINDS, correction=("auto", "off", *LEVELS))
        if (self.aggregation == "horizon") != (self.horizon is not None):
            rule = f"does not fit aggregation={self.aggregation}: set it if, and only if, aggregation=horizon."
            raise OptionError("horizon", self.horizon, rule)
        if self.dual_clip is not None and not self.dual_clip > 1:
            raise OptionError("dual_clip", self.dual_clip, "must be above 1 (3 is usual), or None for no dual clip.")
        if self.minibatch_size and self.micro_batch_size and self.micro_batch_size > self.minibatch_size:
            rule = f"must not exceed minibatch_size={self.minibatch_size}."
            raise OptionError("micro_batch_size", self.micro_batch_size, rule)


def check_discount(gamma: float, environment: Environment) -> None:
    """Check that the discount factor is the one that the environment's rewards are designed for.

    Raises:
        ReasonEnvsError: the environment needs another discount factor.
    """
    if environment.discount not in (None, gamma):
        raise ReasonEnvsError(
            f"algo.gamma={gamma} does not fit {type(environment).__name__}, whose rewards are designed for a discount "
            f"factor of {environment.discount}. Set algo.gamma={environment.discount}."
        )


def check_minibatches(config: LearnerConfig, decisions_per_episode: int | None) -> None:
    """Check that mini-batches divide a training step, since a smaller last one would weigh as much as a whole one.

    The algorithm's default size is always accepted, and so is every size if episodes differ in length (``None``).

    Raises:
        ReasonEnvsError: the mini-batch size does not divide the decisions of a training step.
    """
    size = config.minibatch_size
    if size is None or size == type(config).minibatch_size or decisions_per_episode is None:
        return
    decisions = config.tasks_per_step * config.samples_per_task * decisions_per_episode
    if decisions % size:
        per_episode = "" if decisions_per_episode == 1 else f" x {decisions_per_episode} decisions"
        raise ReasonEnvsError(
            f"algo.minibatch_size={size} must divide the {decisions} responses of a training step (algo.tasks_per_step="
            f"{config.tasks_per_step} x algo.samples_per_task={config.samples_per_task}{per_episode}). It counts "
            "responses, not tasks. algo.minibatch_size=null takes all of them."
        )
