"""The loss of a micro-batch: its inputs, and the terms that algorithms combine in ``Learner.loss``."""

from dataclasses import dataclass

from torch import Tensor

from agents.algorithms.config import LearnerConfig
from agents.algorithms.sample import masked_mean
from agents.losses import aggregate, clipped_policy_loss, kl_estimate


@dataclass(frozen=True)
class LossInputs:
    """Everything that a loss may use. Tensors are [B, T]: one row per decision, one column per token, 0 where padded.

    The loss of a mini-batch is the sum over its micro-batches. Divide by the given counts of the whole mini-batch
    instead of means over [B, T]; then the loss does not depend on how the mini-batch is cut.
    """

    log_probs: Tensor
    """Log-probabilities of the chosen tokens under the weights that are trained, with gradient."""
    old_log_probs: Tensor
    """Log-probabilities of the same tokens at the weights that sampled them, by the learner's own computation."""
    advantages: Tensor
    """Advantage of each token, as ``Learner.credit`` set it."""
    mask: Tensor
    """True where a token was chosen, false where a row is padded."""
    entropy: Tensor
    """Entropy of the distribution that each token was drawn from, in nats. It has a gradient only if
    ``config.entropy_coef`` is not 0."""
    correction: Tensor
    """Importance weights for the difference between the engine's log-probabilities and the learner's; 1 without
    correction (``config.correction``)."""
    denominator: float
    """Number to divide the sum of token losses by: the tokens of the whole mini-batch for
    ``aggregation=token_mean``, its sequences for all other kinds."""
    tokens: float
    """Number of tokens in the whole mini-batch."""
    reference_log_probs: Tensor | None = None
    """Log-probabilities of the same tokens under the reference policy. ``None``: the options need no reference."""
    values: Tensor | None = None
    """State value before each token, with gradient. ``None``: the policy has no values."""
    old_values: Tensor | None = None
    """State values at the weights that sampled. ``None``: the learner trains no values."""
    returns: Tensor | None = None
    """Targets of the values. ``None``: the learner trains no values."""
    value_mask: Tensor | None = None
    """Mask that is true where ``returns`` holds a target. ``None``: the learner trains no values."""
    value_denominator: float = 0.0
    """Number of targets in the whole mini-batch; 0 if the learner trains no values."""


def policy_loss(inputs: LossInputs, config: LearnerConfig) -> tuple[Tensor, dict[str, float]]:
    """Return the clipped surrogate loss and its metrics, with the options of ``config``."""
    return clipped_policy_loss(
        inputs.log_probs,
        inputs.old_log_probs,
        inputs.advantages,
        inputs.mask,
        clip_low=config.clip_low,
        clip_high=config.clip_high,
        dual_clip=config.dual_clip,
        importance=config.importance,
        aggregation=config.aggregation,
        correction=inputs.correction,
        horizon=config.horizon,
        denominator=inputs.denominator,
    )


def penalties(inputs: LossInputs, config: LearnerConfig) -> tuple[Tensor | float, dict[str, float]]:
    """Return the KL term minus the entropy bonus, each if its coefficient is not 0, and the metric ``kl``."""
    total: Tensor | float = 0.0
    metrics: dict[str, float] = {}
    how = (config.aggregation, config.horizon, inputs.denominator)
    if inputs.reference_log_probs is not None:
        kl = kl_estimate(inputs.log_probs, inputs.reference_log_probs, config.kl_kind)
        metrics["kl"] = masked_mean(kl, inputs.mask)
        total = total + config.kl_coef * aggregate(kl, inputs.mask, *how)
    if config.entropy_coef:
        total = total - config.entropy_coef * aggregate(inputs.entropy, inputs.mask, *how)
    return total, metrics
