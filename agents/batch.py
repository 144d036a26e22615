"""Decisions to padded tensors, and how many fit into one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor

from agents.trajectory import Decision
from reason_envs.errors import ReasonEnvsError


@dataclass(frozen=True)
class Batch:
    """Prompts padded on the left, responses on the right, so that all responses begin at the same column."""

    input_ids: Tensor
    """[B, P + T]."""
    attention_mask: Tensor
    """[B, P + T]; 1 at real tokens."""
    position_ids: Tensor
    """[B, P + T]; counted from each row's first real token."""
    response_mask: Tensor
    """[B, T]; True at sampled tokens."""
    prompt_width: int
    """P."""

    def to(self, device: torch.device) -> Batch:
        """Move every tensor."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "prompt_width"}
        return replace(self, **moved)


def collate(decisions: Sequence[Decision], pad_id: int) -> Batch:
    """Pad the prompts and sampled tokens of decisions into one batch.

    Args:
        decisions: at least one; every prompt has a token, since the first draw is conditioned on the last of them.
        pad_id: fills ``input_ids`` where ``attention_mask`` is 0.
    """
    for decision in decisions:
        if not decision.choice.prompt_ids:
            raise ReasonEnvsError(f"Episode {decision.episode_id!r}, turn {decision.turn}: the prompt has no token.")
    prompts = pad([d.choice.prompt_ids for d in decisions], pad_id, side="left")
    responses = pad([d.choice.token_ids for d in decisions], pad_id, side="right")
    prompt_mask = pad([[1] * len(d.choice.prompt_ids) for d in decisions], 0, side="left")
    response_mask = pad([[1] * len(d.choice.token_ids) for d in decisions], 0, side="right")
    attention_mask = torch.cat([prompt_mask, response_mask], dim=1)
    return Batch(
        input_ids=torch.cat([prompts, responses], dim=1),
        attention_mask=attention_mask,
        position_ids=(attention_mask.cumsum(dim=1) - 1).clamp(min=0),
        response_mask=response_mask.bool(),
        prompt_width=prompts.shape[1],
    )


def pad(sequences: Sequence[Sequence[int]], value: int, *, side: Literal["left", "right"]) -> Tensor:
    """Stack integer sequences (at least one) into [B, longest], filling with ``value`` on the ``side``."""
    width = max(len(s) for s in sequences)
    padded = torch.full((len(sequences), width), value, dtype=torch.long)
    for row, sequence in zip(padded, sequences, strict=True):
        start = width - len(sequence) if side == "left" else 0
        row[start : start + len(sequence)] = torch.tensor(sequence, dtype=torch.long)
    return padded


def micro_batches(lengths: Sequence[int], max_tokens: int, max_rows: int | None = None) -> list[list[int]]:
    """Cut items into passes by padded area, sorted by length so that little is padding.

    Args:
        lengths: tokens of each item, [N].
        max_tokens: most ``rows x longest`` of a pass.
        max_rows: most items of a pass.

    Returns:
        Indices of each pass; every item is in exactly one.

    Raises:
        ReasonEnvsError: an item alone is longer than ``max_tokens``.
    """
    result: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if lengths[index] > max_tokens:
            raise ReasonEnvsError(
                f"A sequence of {lengths[index]} tokens does not fit algo.micro_batch_tokens={max_tokens}: raise it or "
                "lower policy.max_tokens or policy.max_prompt_tokens."
            )
        rows = len(result[-1]) + 1 if result else 1
        fits = bool(result) and rows * lengths[result[-1][0]] <= max_tokens and (max_rows is None or rows <= max_rows)
        if fits:
            result[-1].append(index)
        else:
            result.append([index])
    return result
