"""Losses and their parts: pure functions on [B, T] tensors with one number per token.

Numbers at masked positions, ``inf`` and ``nan`` included, change neither values nor gradients. A batch without valid
tokens gives 0. Losses of micro-batches sum to the loss of the whole batch if each call gets the same ``denominator``:
the sum of ``aggregation_count`` over all micro-batches and processes.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from agents.masking import require_shape, spread, zero_masked
from reason_envs.errors import ReasonEnvsError
from reason_envs.validation import check_choice

AGGREGATIONS = ("token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "horizon")
LEVELS = ("token", "sequence")
KL_KINDS = ("k1", "k2", "k3")
MAXIMA = ("ratio_max", "sampler_max_ratio")
"""Metrics that combine by their maximum. ``loss_tokens`` combines by its sum, all others by their mean over tokens."""
MAX_LOG_RATIO = 20.0
"""Limit of the magnitude of log-ratios before ``exp``, so that no ratio overflows. It is far beyond any clip bound."""


def aggregation_count(mask: Tensor, how: str = "token_mean") -> Tensor:
    """Return the count that ``aggregate`` divides by: valid tokens for ``token_mean``, else non-empty sequences."""
    check_choice("aggregation", how, AGGREGATIONS)
    valid = mask.bool()
    return valid.sum() if how == "token_mean" else valid.any(dim=-1).sum()


def aggregate(
    values: Tensor,
    mask: Tensor,
    how: str = "token_mean",
    horizon: int | None = None,
    denominator: float | Tensor | None = None,
) -> Tensor:
    """Reduce one number per token to a single number.

    Args:
        values: [B, T].
        mask: [B, T]; sequences without a valid token are ignored.
        how: ``"token_mean"``: mean over all tokens of the batch (DAPO). ``"seq_mean_token_mean"``: mean over sequences
            of their token means (GRPO's paper). ``"seq_mean_token_sum"``: mean over sequences of their token sums.
            ``"horizon"``: token sums divided by a fixed length, averaged over sequences (Dr. GRPO).
        horizon: the fixed length; required for ``how="horizon"`` and not allowed otherwise.
        denominator: number of tokens (``token_mean``) or sequences (otherwise) of the whole batch to divide by (see
            ``aggregation_count``). ``None``: the count of this call.

    Returns:
        A scalar; 0 if everything is masked.
    """
    require_shape(mask.shape, values=values)
    count = aggregation_count(mask, how) if denominator is None else denominator
    if (how == "horizon") != (horizon is not None):
        raise ReasonEnvsError(f"horizon={horizon} does not fit aggregation {how!r}: set it only for 'horizon'.")
    if denominator is not None and not float(denominator) > 0 and bool(mask.any()):
        raise ReasonEnvsError(
            f"denominator={float(denominator)} must be positive: give the count over all micro-batches."
        )
    totals = zero_masked(values, mask).sum(dim=-1)
    if how == "seq_mean_token_mean":
        totals = totals / mask.bool().sum(dim=-1).clamp(min=1)
    elif horizon is not None:
        totals = totals / horizon
    if isinstance(count, Tensor):  # if the count is 0, so is the total
        return totals.sum() / torch.where(count > 0, count, 1)
    return totals.sum() / (count or 1.0)


def kl_estimate(log_probs: Tensor, ref_log_probs: Tensor, kind: str = "k3", clamp: float | None = None) -> Tensor:
    """Estimate KL(policy || reference) at each sampled token (Schulman 2020, "Approximating KL divergence").

    With d = log_probs - ref_log_probs: ``k1`` is d (unbiased, any sign), ``k2`` is d^2 / 2 (its gradient is the KL's),
    ``k3`` is exp(-d) - 1 + d (unbiased, never negative, low variance). There is no mask: ``aggregate`` ignores masked
    positions, but their numbers must be finite (see ``zero_masked``) for gradients to be finite.

    Args:
        log_probs: any shape.
        ref_log_probs: the same shape.
        kind: ``"k1"``, ``"k2"`` or ``"k3"``.
        clamp: limits each estimate to ``[-clamp, clamp]``; tokens beyond it have no gradient. ``None``: no limit.
    """
    check_choice("kind", kind, KL_KINDS)
    require_shape(log_probs.shape, ref_log_probs=ref_log_probs)
    difference = log_probs - ref_log_probs
    if kind == "k3":
        if clamp is not None:
            # Beyond this bound the estimate exceeds the clamp anyway, and exp must not overflow (0 * inf is nan).
            difference = difference.clamp(min=-2 * math.log1p(clamp) - 2)
        estimate = torch.expm1(-difference) + difference
    else:
        estimate = difference if kind == "k1" else difference.square() / 2
    return estimate if clamp is None else estimate.clamp(-clamp, clamp)


def clipped_policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    importance: str = "token",
    aggregation: str = "token_mean",
    correction: Tensor | None = None,
    horizon: int | None = None,
    denominator: float | Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Clipped surrogate loss (PPO, arXiv 1707.06347, equation 7), with the variants used on language models.

    Args:
        log_probs: [B, T], log-probabilities of the chosen tokens under the weights that are trained.
        old_log_probs: [B, T], those under the weights that sampled, by the learner's own computation.
        advantages: [B, T], or [B] for one advantage per sequence.
        mask: [B, T], true where a token was chosen.
        clip_low: ratios are clipped below ``1 - clip_low``.
        clip_high: ratios are clipped above ``1 + clip_high`` (larger than ``clip_low``: clip-higher, DAPO).
        dual_clip: at negative advantages the loss of a token is at most ``-dual_clip * advantage`` (Ye et al. 2020,
            arXiv 1912.09729); it must be above 1. ``None``: no bound.
        importance: ``"token"`` for one ratio per token, ``"sequence"`` for the geometric mean over the valid tokens of
            a sequence (GSPO, arXiv 2507.18071).
        aggregation: see ``aggregate``.
        correction: weights [B, T] or [B] of the tokens' losses (see ``importance_correction``), without gradient.
        horizon: see ``aggregate``.
        denominator: see ``aggregate``.

    Returns:
        The loss, and metrics over the valid tokens: ``clip_frac`` (share of tokens without gradient because of a clip),
        ``ratio_mean``, ``ratio_max``, ``approx_kl`` (KL(old || new), k3) and their number ``loss_tokens``. The metrics
        of several micro-batches are combined by ``combine_metrics``.
    """
    _check_clips(clip_low, clip_high, dual_clip)
    require_shape(mask.shape, log_probs=log_probs, old_log_probs=old_log_probs)
    log_ratio = zero_masked(log_probs, mask) - zero_masked(old_log_probs, mask).detach()
    ratio = _bounded_exp(_at_level(log_ratio, mask, importance, "mean"))
    advantages = spread(advantages, mask, "advantages").detach()
    losses = -advantages * ratio
    clipped = torch.maximum(losses, -advantages * ratio.clamp(1 - clip_low, 1 + clip_high))
    if dual_clip is not None:
        clipped = torch.where(advantages < 0, torch.minimum(clipped, -dual_clip * advantages), clipped)
    weighted = clipped if correction is None else clipped * spread(correction, mask, "correction").detach()
    loss = aggregate(weighted, mask, aggregation, horizon, denominator)
    return loss, _policy_metrics(log_ratio.detach(), ratio.detach(), (clipped != losses).detach(), mask)


def combine_metrics(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Combine the metrics of micro-batches: means are weighted by ``loss_tokens``, which each has (see ``MAXIMA``)."""
    tokens = sum(part["loss_tokens"] for part in parts)
    means = [name for name in parts[0] if name not in ("loss_tokens", *MAXIMA)]
    combined = {name: sum(p[name] * p["loss_tokens"] for p in parts) / max(tokens, 1.0) for name in means}
    maxima = {name: max(part[name] for part in parts) for name in MAXIMA if name in parts[0]}
    return {**combined, **maxima, "loss_tokens": tokens}


def importance_correction(
    old_log_probs: Tensor, sampler_log_probs: Tensor, mask: Tensor, level: str = "token", cap: float = 2.0
) -> Tensor:
    """Return weights for the gap between the engine that sampled and the learner (truncated importance sampling).

    Args:
        old_log_probs: [B, T], the learner's log-probabilities at the weights that sampled.
        sampler_log_probs: [B, T], the engine's log-probabilities.
        mask: [B, T].
        level: ``"token"``: the probability ratio of each token; ``"sequence"``: the product over the sequence.
        cap: maximum weight.

    Returns:
        Weights [B, T] without gradient; 0 where masked.
    """
    if not cap > 0:
        raise ReasonEnvsError(f"cap={cap} must be positive: it is the largest importance weight.")
    require_shape(mask.shape, old_log_probs=old_log_probs, sampler_log_probs=sampler_log_probs)
    log_ratio = (zero_masked(old_log_probs, mask) - zero_masked(sampler_log_probs, mask)).detach()
    weights = _bounded_exp(_at_level(log_ratio, mask, level, "sum"))
    return zero_masked(weights.clamp(max=cap), mask)


def value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    mask: Tensor,
    clip: float | None = None,
    denominator: float | Tensor | None = None,
) -> Tensor:
    """Return half the squared error of the values, as a mean over valid positions.

    Args:
        values: [B, T], with gradient.
        old_values: [B, T], the values at the weights that sampled.
        returns: [B, T], the targets.
        mask: [B, T].
        clip: maximum change from ``old_values`` that lowers the loss (PPO's value clipping). ``None``: no limit.
        denominator: number of valid positions of the whole batch (see ``aggregate``).
    """
    require_shape(mask.shape, values=values, old_values=old_values, returns=returns)
    values, returns = zero_masked(values, mask), zero_masked(returns, mask).detach()
    losses = (values - returns).square()
    if clip is not None:
        old = zero_masked(old_values, mask).detach()
        near = old + (values - old).clamp(-clip, clip)
        losses = torch.maximum(losses, (near - returns).square())
    return aggregate(losses / 2, mask, denominator=denominator)


def overlong_penalty(lengths: Tensor, max_length: int, cache: int) -> Tensor:
    """Soft penalty on long responses (DAPO, arXiv 2503.14476, equation 13).

    Args:
        lengths: [N], number of tokens of each response.
        max_length: length from which on the penalty is -1.
        cache: number of tokens before ``max_length`` over which the penalty falls linearly from 0.

    Returns:
        Penalties [N] in [-1, 0], to add to the rewards.
    """
    if not 0 < cache <= max_length:
        raise ReasonEnvsError(f"cache={cache} must lie between 1 and max_length={max_length}.")
    return ((max_length - cache - lengths.to(torch.get_default_dtype())) / cache).clamp(-1.0, 0.0)


def _bounded_exp(log_ratio: Tensor) -> Tensor:
    return log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def _at_level(log_ratio: Tensor, mask: Tensor, level: str, reduction: str) -> Tensor:
    """Return the log-ratios of tokens, or the sum or mean of each sequence at all of its positions."""
    check_choice("level", level, LEVELS)
    if level == "token":
        return log_ratio
    total = log_ratio.sum(dim=-1, keepdim=True)
    if reduction == "mean":
        total = total / mask.bool().sum(dim=-1, keepdim=True).clamp(min=1)
    return total.expand(log_ratio.shape)


def _check_clips(clip_low: float, clip_high: float, dual_clip: float | None) -> None:
    if not (0 <= clip_low <= 1 and clip_high >= 0):
        raise ReasonEnvsError(f"clip_low={clip_low} must lie in [0, 1] and clip_high={clip_high} must not be negative.")
    if dual_clip is not None and not dual_clip > 1:
        raise ReasonEnvsError(f"dual_clip={dual_clip} must be above 1 (3 is usual), or None for no dual clip.")


@torch.no_grad()
def _policy_metrics(log_ratio: Tensor, ratio: Tensor, stopped: Tensor, mask: Tensor) -> dict[str, float]:
    valid = mask.bool()
    tokens = valid.sum().to(ratio.dtype)
    kl = kl_estimate(torch.zeros_like(log_ratio), log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO))
    sums = [zero_masked(values.to(ratio.dtype), valid).sum() for values in (stopped, ratio, kl)]
    means = [total / tokens.clamp(min=1) for total in sums]
    largest = zero_masked(ratio, valid).amax() if ratio.numel() else tokens
    # Transfer all numbers from the device at once.
    clip_frac, ratio_mean, approx_kl, ratio_max, count = torch.stack([*means, largest, tokens]).tolist()
    return {
        "clip_frac": clip_frac,
        "ratio_mean": ratio_mean,
        "ratio_max": ratio_max,
        "approx_kl": approx_kl,
        "loss_tokens": count,
    }
