"""Reading token rows with a token classifier; rows that continue a cached row are read from there on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from reason_envs.llm.prefix_cache import Prefix, PrefixStore, PromptReader, Tokens, states_of


@dataclass(frozen=True, eq=False)
class CachedSteps:
    """The cached state of a row that has been read."""

    token_ids: Tokens
    """Tokens of the row."""
    scores: dict[int, float]
    """Score at the end of each step, by token index."""
    prefix: Prefix
    """Keys and values of the row."""


@dataclass(eq=False)
class Row:
    """A token row to read, and the results."""

    token_ids: Tokens
    """Tokens of the row."""
    question_tokens: int
    """Number of leading tokens that belong to the question."""
    prefix_cache: CachedSteps | None = None
    """Cached state of the first tokens of this row. ``None``: the whole row is read."""
    keep_prefix: bool = False
    """Whether to cache the row for rows that continue it."""
    scores: dict[int, float] = field(default_factory=dict)
    """Score at the end of each step, by token index. The reader fills in the values; ends beyond the row keep 0."""
    new_prefix_cache: CachedSteps | None = None
    """Cached state of this row, set by the reader if ``keep_prefix`` is true."""

    @property
    def cached_tokens(self) -> int:
        """Number of leading tokens that are not read again."""
        return 0 if self.prefix_cache is None else self.prefix_cache.prefix.length


class StepReader:
    """Reads rows in batches of at most ``max_batch_tokens`` tokens, including padding, with a token classifier.

    The probability of the label with the index ``positive`` is the score.
    """

    def __init__(self, model: Any, positive: int, pad_id: int, store: PrefixStore, max_batch_tokens: int) -> None:
        self.model = model
        self.store = store
        self._positive = positive
        self._pad_id = pad_id
        self._max_batch_tokens = max_batch_tokens

    @torch.inference_mode()
    def read(self, rows: Sequence[Row]) -> None:
        """Set the scores of all rows, and the caches of those with ``keep_prefix``."""
        plain = [row for row in rows if not row.keep_prefix and row.prefix_cache is None]
        for batch in batches_by_length(plain, self._max_batch_tokens):
            ids, mask = pad_rows([row.token_ids for row in batch], self._pad_id)
            device = self.model.device
            logits = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
            self._set_scores(batch, logits, [0] * len(batch))
        cached = [row for row in rows if row.keep_prefix or row.prefix_cache is not None]
        for batch in batches_by_length(cached, self._max_batch_tokens):
            self._read_after_prefixes(batch)
        self.store.trim()

    def _read_after_prefixes(self, batch: list[Row]) -> None:
        """Read the tokens after each row's cached prefix, padded on the left."""
        reader = PromptReader(
            self.store, lambda: DynamicCache(config=self.model.config), self._logits, self.model.device
        )
        new = [row.token_ids[row.cached_tokens :] for row in batch]
        prefixes = [None if row.prefix_cache is None else row.prefix_cache.prefix for row in batch]
        logits, cache, mask = reader.read(new, prefixes)
        width = logits.shape[1]
        self._set_scores(batch, logits, [width - len(row.token_ids) for row in batch])
        keep = [i for i, row in enumerate(batch) if row.keep_prefix]
        if keep:
            states = states_of(cache, torch.tensor(keep, device=self.model.device), mask.shape[1] - width)
            for i, own in zip(keep, states, strict=True):
                self._keep(batch[i], own[:, :, width - len(new[i]) :])

    def _logits(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        return self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).logits

    def _set_scores(self, batch: Sequence[Row], logits: Tensor, offsets: Sequence[int]) -> None:
        """Set the scores of a batch. Token ``i`` of a row is in column ``offset + i`` of the logits."""
        probabilities = logits.float().softmax(-1)[..., self._positive].tolist()
        for row, values, offset in zip(batch, probabilities, offsets, strict=True):
            cached = {} if row.prefix_cache is None else row.prefix_cache.scores
            for end in row.scores:
                if end < len(row.token_ids):
                    row.scores[end] = cached[end] if end in cached else values[offset + end]

    def _keep(self, row: Row, states: Tensor) -> None:
        parent = None if row.prefix_cache is None else row.prefix_cache.prefix
        if parent is None and row.question_tokens:
            parent = self.store.add(None, states[:, :, : row.question_tokens].clone())
            states = states[:, :, row.question_tokens :]
        prefix = self.store.add(parent, states.clone())
        row.new_prefix_cache = CachedSteps(row.token_ids, dict(row.scores), prefix)


def question_cache(cache: CachedSteps) -> CachedSteps | None:
    """Return the cached state of the question alone; ``None`` if the cache has no such part."""
    question, *steps = cache.prefix.chain()
    return CachedSteps(cache.token_ids[: question.length], {}, question) if steps else None


def pad_rows(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Pad token rows on the right; return token ids and attention mask, both [rows, longest]."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask


def batches_by_length(rows: Sequence[Row], max_tokens: int) -> Iterator[list[Row]]:
    """Group rows of similar length into batches of at most ``max_tokens`` tokens, including padding.

    A row that is longer than ``max_tokens`` forms a batch alone.
    """
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.token_ids)):
        if batch and len(row.token_ids) * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
