"""What stands between trajectories and the loss: samples, and what a mini-batch is divided by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.trajectory import Decision


@dataclass
class Sample:
    """One decision on its way into the loss."""

    decision: Decision
    """What was chosen."""
    advantage: float | Tensor = 0.0
    """Its credit: one number, spread over its tokens, or one a token, [T]."""
    old: Tensor | None = None
    """Log-probabilities at the sampling weights, [T]; ``None``: the update's own forward is at those weights."""
    reference: Tensor | None = None
    """Log-probabilities under the reference, [T]; ``None`` without a KL penalty."""
    old_values: Tensor | None = None
    """State values at the sampling weights, [T]; ``None`` where the policy or the learner has none."""
    returns: Tensor | None = None
    """What the first values should have been (all T, or one); ``None`` where no values are learned."""


@dataclass(frozen=True)
class Totals:
    """What a mini-batch's sums are divided by, so that its loss does not depend on how it is cut."""

    tokens: float
    """Its tokens."""
    loss: float
    """Its tokens or sequences, whichever the configured aggregation counts."""
    returns: float
    """The values that have a target."""


def stack_advantages(samples: Sequence[Sample], like: Tensor) -> Tensor:
    """One number a sequence, [B], or one a token, [B, T]."""
    if isinstance(samples[0].advantage, Tensor):
        return stack([torch.as_tensor(s.advantage) for s in samples], like)
    return torch.tensor([s.advantage for s in samples]).to(like)


def stack(rows: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """Stack rows of different lengths into the shape (and device) of ``like``, zero where they end."""
    stacked = torch.zeros_like(like, requires_grad=False)
    for i, row in enumerate(rows):
        assert row is not None
        stacked[i, : len(row)] = row
    return stacked


def masked_mean(values: Tensor, mask: Tensor) -> float:
    """Mean over the valid tokens."""
    return float(values.detach()[mask].mean())
