"""Padded tensors of decisions, and the division of decisions into passes of bounded size."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from agents.trajectory import Decision
from reason_envs.errors import ReasonEnvsError

MINIMUM_LENGTH_RATIO = 0.6
"""Minimum length of an item relative to the longest of its pass. A shorter item starts a new pass with less padding."""


@dataclass(frozen=True)
class Batch:
    """Prompts padded on the left and responses padded on the right, so that all responses start at the same column."""

    input_ids: Tensor
    """Ids of prompt and response tokens, [B, P + T]."""
    attention_mask: Tensor
    """1 at real tokens, 0 at padding, [B, P + T]."""
    position_ids: Tensor
    """Position of each token from the row's first real token, [B, P + T]."""
    response_mask: Tensor
    """True at sampled tokens, [B, T]."""
    same_prompt: Tensor
    """Index of the first row with the same prompt, [B]."""
    prompt_width: int
    """Width P of the padded prompts."""

    def to(self, device: torch.device) -> "Batch":
        """Return a copy with every tensor on a device."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "prompt_width"}
        return replace(self, **moved)


def deduplicate(decisions: Sequence[Decision]) -> tuple[list[Decision], Tensor]:
    """Remove decisions with the same prompt, response and sampling parameters as an earlier one.

    Returns:
        The remaining decisions in order, and for each of ``decisions`` its index among them, [N].
    """
    places: dict[tuple[Any, ...], int] = {}
    kept: list[Decision] = []
    index = []
    for decision in decisions:
        choice = decision.choice
        key = (*choice.prompt_ids, None, *choice.token_ids, choice.sampling)
        if key not in places:
            places[key] = len(kept)
            kept.append(decision)
        index.append(places[key])
    return kept, torch.tensor(index)


def collate(decisions: Sequence[Decision], pad_id: int) -> Batch:
    """Pad the prompts and sampled tokens of at least one decision into one batch; padded ids are ``pad_id``.

    Raises:
        ReasonEnvsError: a prompt is empty, but the first token is conditioned on the last token of the prompt.
    """
    for decision in decisions:
        if not decision.choice.prompt_ids:
            raise ReasonEnvsError(f"Episode {decision.episode_id!r}, turn {decision.turn}: the prompt is empty.")
    prompts = pad([d.choice.prompt_ids for d in decisions], pad_id, side="left")
    responses = pad([d.choice.token_ids for d in decisions], pad_id, side="right")
    prompt_mask = pad([[1] * len(d.choice.prompt_ids) for d in decisions], 0, side="left")
    response_mask = pad([[1] * len(d.choice.token_ids) for d in decisions], 0, side="right")
    attention_mask = torch.cat([prompt_mask, response_mask], dim=1)
    rows: dict[tuple[int, ...], int] = {}
    same_prompt = [rows.setdefault(tuple(d.choice.prompt_ids), row) for row, d in enumerate(decisions)]
    return Batch(
        input_ids=torch.cat([prompts, responses], dim=1),
        attention_mask=attention_mask,
        position_ids=(attention_mask.cumsum(dim=1) - 1).clamp(min=0),
        response_mask=response_mask.bool(),
        same_prompt=torch.tensor(same_prompt),
        prompt_width=prompts.shape[1],
    )


def pad(sequences: Sequence[Sequence[int]], value: int, *, side: Literal["left", "right"]) -> Tensor:
    """Stack one or more integer sequences into [B, longest], padded with ``value`` on one side."""
    rows = [torch.tensor(sequence, dtype=torch.long) for sequence in sequences]
    return pad_sequence(rows, batch_first=True, padding_value=value, padding_side=side)


def micro_batches(
    lengths: Sequence[int], prompts: Sequence[Hashable], max_tokens: int, max_rows: int | None = None
) -> list[list[int]]:
    """Divide items into passes of bounded size.

    Items of a pass have similar lengths, so that there is little padding. Items with the same prompt share a pass if
    the limits allow it, since a pass computes each prompt once.

    Args:
        lengths: number of tokens of each item, [N].
        prompts: the prompt of each item, or a name for it, [N].
        max_tokens: maximum of ``rows x longest`` per pass.
        max_rows: maximum number of items per pass. ``None``: no limit.

    Returns:
        The indices of the items of each pass. Every item is in exactly one pass.

    Raises:
        ReasonEnvsError: a single item is longer than ``max_tokens``.
    """
    longest = max(lengths, default=0)
    if longest > max_tokens:
        raise ReasonEnvsError(
            f"A sequence of {longest} tokens exceeds algo.micro_batch_tokens={max_tokens}: raise it, or lower "
            "policy.max_tokens or policy.max_prompt_tokens."
        )
    rows = max_rows or len(lengths)
    passes: list[list[int]] = []
    for band in _bands(lengths):
        if len(band) > min(rows, max_tokens // lengths[band[0]]):
            first = {prompts[i]: place for place, i in reversed([*enumerate(band)])}
            band.sort(key=lambda i: first[prompts[i]])
        open_pass: list[int] = []
        for index in band:
            filled = [*open_pass, index]
            if len(filled) > rows or len(filled) * max(lengths[i] for i in filled) > max_tokens:
                passes.append(open_pass)
                filled = [index]
            open_pass = filled
        passes.append(open_pass)
    return passes


def _bands(lengths: Sequence[int]) -> list[list[int]]:
    """Divide items, longest first, so that each is at least `MINIMUM_LENGTH_RATIO` as long as its band's longest."""
    bands: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if bands and lengths[index] >= MINIMUM_LENGTH_RATIO * lengths[bands[-1][0]]:
            bands[-1].append(index)
        else:
            bands.append([index])
    return bands
