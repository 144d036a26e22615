"""Batched decoding in which the tokens of a row depend only on its seed and its prompt."""

import functools
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reason_envs.batching import abandoned
from reason_envs.errors import EngineError
from reason_envs.llm.engine import FinishReason, GenerationRequest
from reason_envs.llm.engines.transformers.embedding import Embedder
from reason_envs.llm.engines.transformers.kv_cache import decoding_cache, select_rows
from reason_envs.llm.prefix_cache import Prefix, PrefixStore, PromptReader, states_of
from reason_envs.llm.sampling import TokenSampler, uniforms
from reason_envs.llm.stop_strings import StopStrings

CACHE_SPARE = 64
"""Number of positions by which the key-value cache grows at a time."""
COMPACT_BELOW = 0.75
"""Finished rows leave the batch when less than this share of its rows is unfinished."""


@dataclass
class Row:
    """One sample during decoding."""

    request: int
    """Index of the request."""
    seed: int
    """Seed of the sample."""
    prompt: int
    """Index of the prompt."""
    token_ids: list[int]
    """Tokens sampled so far."""
    log_probs: list[float]
    """Log-probability of each sampled token."""
    finish_reason: FinishReason | None = None
    """Why the sample ended. ``None``: it has not ended."""
    embedding: list[float] | None = None
    """Embedding of the sample. ``None``: it has not ended, or samples are not embedded."""
    prefix: Prefix | None = None
    """Cached state of the prompt; after the end also of the sampled tokens. ``None``: nothing is cached."""


class Decoder:
    """Samples the rows of a batch with a causal language model.

    The tokenizer finds stop strings, ``eos`` are the tokens that end a response, and ``prefixes`` stores the prefixes
    of requests with ``keep_prefix``. Each sample gets an embedding of ``embedding_size`` numbers; 0: none.
    """

    def __init__(
        self, model: Any, tokenizer: Any, eos: frozenset[int], prefixes: PrefixStore, embedding_size: int
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.prefixes = prefixes
        self.device = model.device
        accepted = inspect.signature(model.forward).parameters.keys() & {"past_key_values", "cache_params"}
        if not accepted:
            raise EngineError(
                f"{type(model).__name__} does not accept a cache of transformers, so engine=transformers cannot sample "
                "from it: use another model or another engine, such as engine=vllm."
            )
        self._cache_argument = "past_key_values" if "past_key_values" in accepted else "cache_params"
        self._eos = eos
        self._embedder = Embedder(model, embedding_size) if embedding_size else None
        self._stop_strings = functools.cache(functools.partial(StopStrings, tokenizer))

    def decode(self, rows: list[Row], prompts: list[tuple[int, ...]], requests: Sequence[GenerationRequest]) -> None:
        """Sample until all rows have ended, given the prompts and requests of all. Tokens are added to the rows."""
        samplings = [requests[row.request].sampling for row in rows]
        sampler = TokenSampler(samplings, self.device)
        stops = [self._stop_strings(sampling.stop) for sampling in samplings]
        seeds = np.array([row.seed for row in rows], dtype=np.uint64)
        live = list(range(len(rows)))
        cached = self._cached_prefixes(rows, prompts, requests)
        logits, cache, mask, positions = self._prefill(rows, prompts, cached)
        start = mask.shape[1] - 1
        while True:
            steps = np.array([len(rows[r].token_ids) for r in live])
            tokens, log_probs = sampler(logits, uniforms(seeds[live], steps))
            for r, token, log_prob in zip(live, tokens.tolist(), log_probs.tolist(), strict=True):
                self._append(rows[r], token, log_prob, samplings[r].max_tokens, stops[r])
            self._embed([rows[r] for r in live])
            open_rows = [i for i, r in enumerate(live) if rows[r].finish_reason is None]
            compact = len(open_rows) < COMPACT_BELOW * len(live)
            if cached is not None and compact:
                self._keep([None if rows[r].finish_reason is None else rows[r] for r in live], cache, start)
            if not open_rows:
                return
            if abandoned():
                raise EngineError("All callers of a batch were cancelled.")
            if compact:
                keep = torch.tensor(open_rows, device=self.device)
                live = [live[i] for i in open_rows]
                tokens, mask, positions = tokens[keep], mask[keep], positions[keep]
                sampler.select(keep)
                select_rows(cache, keep)
            positions = positions + 1
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            logits = self.forward(tokens[:, None], mask, positions, cache)

    def _append(self, row: Row, token: int, log_prob: float, max_tokens: int, stop: StopStrings) -> None:
        """Add a sampled token to a row, and end the row if necessary. A row that has ended does not change."""
        if row.finish_reason is not None:
            return
        row.token_ids.append(token)
        row.log_probs.append(log_prob)
        if token in self._eos or stop.ends(row.token_ids):
            row.finish_reason = "stop"
        elif len(row.token_ids) >= max_tokens:
            row.finish_reason = "length"

    def _embed(self, rows: list[Row]) -> None:
        """Embed the rows that have just ended."""
        ended = [i for i, row in enumerate(rows) if row.finish_reason is not None and row.embedding is None]
        if self._embedder is not None and ended:
            for i, embedding in zip(ended, self._embedder.embed(ended), strict=True):
                rows[i].embedding = embedding

    def _prefill(
        self, rows: list[Row], prompts: list[tuple[int, ...]], cached: dict[int, Prefix | None] | None
    ) -> tuple[Tensor, Any, Tensor, Tensor]:
        """Read each distinct prompt once, after its cached prefix, and repeat its cache row for its samples.

        ``cached`` has the prefix of each prompt by index; ``None``: prefixes are not kept. Returns the logits after the
        prompts [rows, vocabulary], the cache, its attention mask, and the last positions.
        """
        distinct = sorted({row.prompt for row in rows})
        texts = [prompts[p] for p in distinct]
        place = {p: i for i, p in enumerate(distinct)}
        reader = PromptReader(
            self.prefixes, lambda: decoding_cache(self.model.config, CACHE_SPARE), self.forward, self.device
        )
        if cached is None:
            logits, cache, mask = reader.read(texts, [None] * len(texts))
        else:
            prefixes = reader.prefixes(texts, [cached[p] for p in distinct])
            logits, cache, mask = reader.read([text[-1:] for text in texts], prefixes)
            for row in rows:
                row.prefix = prefixes[place[row.prompt]]
        repeat = torch.tensor([place[row.prompt] for row in rows], device=self.device)
        select_rows(cache, repeat)
        if self._embedder is not None:
            self._embedder.select(repeat)
        mask = mask[repeat]
        return logits[repeat], cache, mask, mask.sum(-1, keepdim=True) - 1

    def _cached_prefixes(
        self, rows: list[Row], prompts: list[tuple[int, ...]], requests: Sequence[GenerationRequest]
    ) -> dict[int, Prefix | None] | None:
        """Return the usable prefix of each prompt by index; ``None`` if no request has ``keep_prefix``."""
        if not (self.prefixes.enabled and any(requests[row.request].keep_prefix for row in rows)):
            return None
        cached: dict[int, Prefix | None] = {}
        given = {(row.prompt, id(kept := requests[row.request].prefix_cache)): kept for row in rows}
        for (prompt, _), prefix in given.items():
            cached[prompt] = cached.get(prompt) or self.prefixes.usable(prefix, len(prompts[prompt]))
        return cached

    def _keep(self, rows: list[Row | None], cache: Any, start: int) -> None:
        """Store the prefixes of rows that have ended, without their last tokens. ``None``: a row has not ended."""
        ended = [(i, row) for i, row in enumerate(rows) if row is not None]
        states = states_of(cache, torch.tensor([i for i, _ in ended], device=self.device), start)
        for (_, row), own in zip(ended, states, strict=True):
            row.prefix = self.prefixes.add(row.prefix, own[:, :, : len(row.token_ids)].clone())

    def forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """Return the logits after the last position, [rows, vocabulary]."""
        if self._cache_argument == "cache_params":  # recurrent models take the mask of the new tokens only
            mask = mask[:, -ids.shape[1] :]
        out = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_argument: cache},
        )
        return out.logits[:, -1]
