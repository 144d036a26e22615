"""Reading token rows with a token classifier, behind what is kept of rows that they continue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from reason_envs.llm.prefix_cache import Prefix, PrefixStore, PromptReader, Tokens, states_of


@dataclass(frozen=True, eq=False)
class KnownSteps:
    """What is kept of a row that has been read."""

    token_ids: Tokens
    """Its tokens."""
    scores: dict[int, float]
    """The score at each of its ends."""
    prefix: Prefix
    """Its keys and values."""


@dataclass(eq=False)
class Row:
    """A row to read, and what came out."""

    token_ids: Tokens
    """Its tokens."""
    question_tokens: int
    """How many of them belong to the question."""
    known: KnownSteps | None = None
    """A row that this one continues."""
    keep: bool = False
    """Whether another row will continue this one."""
    scores: dict[int, float] = field(default_factory=dict)
    """The score at each end, an index into the tokens; 0 at ends that lie beyond."""
    kept: KnownSteps | None = None
    """This row, for those that continue it."""

    @property
    def covered(self) -> int:
        """Tokens that need not be read again."""
        return 0 if self.known is None else self.known.prefix.length


class StepReader:
    """Reads rows in batches.

    Args:
        model: a token classifier.
        positive: index of the label whose probability is the score.
        pad_id: stands where a row has no token.
        store: where keys and values are kept.
        max_batch_tokens: most tokens of a forward pass, padding included.
    """

    def __init__(self, model: Any, positive: int, pad_id: int, store: PrefixStore, max_batch_tokens: int) -> None:
        self.model = model
        self.store = store
        self._positive = positive
        self._pad_id = pad_id
        self._max_batch_tokens = max_batch_tokens

    @torch.inference_mode()
    def read(self, rows: Sequence[Row]) -> None:
        """Fill in the scores of rows, and what is kept of those that others will continue."""
        plain = [row for row in rows if not row.keep and row.known is None]
        for batch in batches_by_length(plain, self._max_batch_tokens):
            ids, mask = pad_rows([row.token_ids for row in batch], self._pad_id)
            device = self.model.device
            logits = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
            self._fill_in(batch, logits, [0] * len(batch))
        continued = [row for row in rows if row.keep or row.known is not None]
        for batch in batches_by_length(continued, self._max_batch_tokens):
            self._read_behind(batch)
        self.store.trim()

    def _read_behind(self, batch: list[Row]) -> None:
        """Read what no prefix covers of rows, padded on the left."""
        reader = PromptReader(
            self.store, lambda: DynamicCache(config=self.model.config), self._logits, self.model.device
        )
        new = [row.token_ids[row.covered :] for row in batch]
        logits, cache, mask = reader.read(new, [None if row.known is None else row.known.prefix for row in batch])
        width = logits.shape[1]
        self._fill_in(batch, logits, [width - len(row.token_ids) for row in batch])
        keep = [i for i, row in enumerate(batch) if row.keep]
        if keep:
            states = states_of(cache, torch.tensor(keep, device=self.model.device), mask.shape[1] - width)
            for i, own in zip(keep, states, strict=True):
                self._keep(batch[i], own[:, :, width - len(new[i]) :])

    def _logits(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        return self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).logits

    def _fill_in(self, batch: Sequence[Row], logits: Tensor, offsets: Sequence[int]) -> None:
        """Read the scores off; token ``i`` of a row stands in column ``offset + i``."""
        right = logits.float().softmax(-1)[..., self._positive].tolist()
        for row, values, offset in zip(batch, right, offsets, strict=True):
            known = {} if row.known is None else row.known.scores
            for end in row.scores:
                if end < len(row.token_ids):
                    row.scores[end] = known[end] if end in known else values[offset + end]

    def _keep(self, row: Row, states: Tensor) -> None:
        parent = None if row.known is None else row.known.prefix
        if parent is None and row.question_tokens:
            parent = self.store.add(None, states[:, :, : row.question_tokens].clone())
            states = states[:, :, row.question_tokens :]
        row.kept = KnownSteps(row.token_ids, dict(row.scores), self.store.add(parent, states.clone()))


def question_of(known: KnownSteps) -> KnownSteps | None:
    """Return what is kept of the question alone, where it is a part of its own."""
    question, *steps = known.prefix.chain()
    return KnownSteps(known.token_ids[: question.length], {}, question) if steps else None


def pad_rows(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Pad token rows on the right; returns ids and attention mask, [rows, longest]."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask


def batches_by_length(rows: Sequence[Row], max_tokens: int) -> Iterator[list[Row]]:
    """Cut rows into batches of similar length, of at most ``max_tokens`` with padding (a longer row is alone)."""
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.token_ids)):
        if batch and len(row.token_ids) * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
