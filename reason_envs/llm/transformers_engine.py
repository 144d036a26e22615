"""The in-process engine on Hugging Face transformers: batched decoding with addressed sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reason_envs.batching import MicroBatcher
from reason_envs.core import derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.chat import encode_prompt, eos_ids
from reason_envs.llm.engine import ContextLengthError, FinishReason, Generation, GenerationRequest, closed_error
from reason_envs.llm.grouped_attention import use_grouped_attention
from reason_envs.llm.kv_cache import decoding_cache, select_rows
from reason_envs.llm.loading import is_quantized, load_model, load_tokenizer, resolve_device, resolve_dtype
from reason_envs.llm.prefixes import Prefix, PrefixStore, PromptReader, states_of
from reason_envs.llm.sampling import TokenSampler, uniforms
from reason_envs.llm.stopping import StopStrings
from reason_envs.llm.weights import copy_weights, digest

CACHE_SPARE = 64
"""Positions by which the key/value cache grows at a time."""
ONE_SET_OF_WEIGHTS = "engine=transformers holds one set of weights and no adapters."
QUANTIZED = (
    "The engine's weights are quantized, so it cannot take new ones: to train, leave out engine.load_in_8bit and "
    "engine.load_in_4bit and give a model that is not stored quantized (policy.lora_rank saves the learner's memory)."
)
COMPACT_BELOW = 0.75
"""Finished rows are dropped from the batch once fewer than this share of its rows still decode."""


@dataclass
class TransformersEngineConfig:
    """Options of ``engine=transformers``."""

    model: str = "embedded"
    """``embedded``, a folder, or a hub name."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda:N``."""
    dtype: str = "auto"
    """``auto`` (float32 on a CPU, bfloat16 on a GPU), ``float32``, ``bfloat16`` or ``float16``."""
    attention: str = "sdpa"
    """``sdpa``, ``eager`` or ``flash_attention_2``."""
    load_in_8bit: bool = False
    """Quantize the linear layers to 8 bits (extra ``[quantization]``): for a frozen model, which takes no weights."""
    load_in_4bit: bool = False
    """Quantize them to 4 bits instead."""
    max_batch_size: int = 256
    """Most samples decoded at the same time; lower it when memory runs out."""
    prefix_cache_mb: int = 512
    """Memory (units of 2**20 bytes) for keys and values that search trees keep from one step to the next; 0 reads every
    path again."""

    def __post_init__(self) -> None:
        for name, least in (("max_batch_size", 1), ("prefix_cache_mb", 0)):
            if getattr(self, name) < least:
                raise ReasonEnvsError(f"engine.{name}={getattr(self, name)} must be at least {least}.")


@dataclass
class _Row:
    """One sample being decoded."""

    request: int
    seed: int
    prompt: int
    token_ids: list[int]
    log_probs: list[float]
    finish_reason: FinishReason | None = None
    prefix: Prefix | None = None


class TransformersEngine:
    """A causal language model in this process.

    A sample depends on its request's seed and prompt alone: in float32 the same tokens come out alone or in a batch.
    """

    def __init__(self, config: TransformersEngineConfig | None = None, **overrides: Any) -> None:
        self.config = config or TransformersEngineConfig(**overrides)
        self.device = resolve_device(self.config.device)
        self.tokenizer = load_tokenizer(self.config.model)
        self.dtype = resolve_dtype(self.config.dtype, self.device)
        self._model: Any = load_model(
            self.config.model,
            device=self.device,
            dtype=self.dtype,
            attention=self.config.attention,
            load_in_8bit=self.config.load_in_8bit,
            load_in_4bit=self.config.load_in_4bit,
        )
        if self.config.attention == "sdpa":
            use_grouped_attention(self._model)
        trainable = set() if is_quantized(self.model) else {"trainable"}
        self.capabilities = frozenset({"log_probs"} | trainable)
        self.policy_version = 0
        self.generated_tokens = 0
        """Every token sampled since the start."""
        self._eos = eos_ids(self.model, self.tokenizer)
        self._stops: dict[tuple[str, ...], StopStrings] = {}
        self.prefixes = PrefixStore(self.model.config, self.config.prefix_cache_mb << 20)
        self.batcher: MicroBatcher[GenerationRequest, list[Generation]] = MicroBatcher(self.generate_batch)

    @property
    def model(self) -> Any:
        """The model that generates, until the engine is closed."""
        if self._model is None:
            raise closed_error(self)
        return self._model

    @property
    def context_length(self) -> int | None:
        """Most tokens of prompt and response together; ``None`` where the model sets no limit."""
        return getattr(self.model.config, "max_position_embeddings", None)

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Return ``request.n`` samples; requests that wait together are decoded together."""
        return await self.batcher(request)

    @torch.inference_mode()
    def generate_batch(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        """Answer many requests at once; equal prompts are computed once."""
        prompts: dict[tuple[int, ...], int] = {}
        rows: list[_Row] = []
        for index, request in enumerate(requests):
            ids = tuple(encode_prompt(self.tokenizer, request.prompt))
            self._check(request, len(ids))
            prompt = prompts.setdefault(ids, len(prompts))
            rows += [_Row(index, derive_seed(request.seed, i), prompt, [], []) for i in range(request.n)]
        prompt_ids = list(prompts)
        order = sorted(range(len(rows)), key=lambda r: (len(prompt_ids[rows[r].prompt]), rows[r].prompt))
        for start in range(0, len(order), self.config.max_batch_size):
            chunk = [rows[r] for r in order[start : start + self.config.max_batch_size]]
            self._decode(chunk, prompt_ids, requests)
            self.prefixes.trim()
        answers: list[list[Generation]] = [[] for _ in requests]
        for row in rows:
            answers[row.request].append(self._finish(row, requests[row.request], prompt_ids[row.prompt]))
        return answers

    def _check(self, request: GenerationRequest, prompt_tokens: int) -> None:
        if request.adapter:
            raise ReasonEnvsError(f"{ONE_SET_OF_WEIGHTS} Use engine=vllm for adapters.")
        positions = self.context_length
        if positions is not None and prompt_tokens + request.sampling.max_tokens > positions:
            raise ContextLengthError(
                f"A prompt of {prompt_tokens} tokens and max_tokens={request.sampling.max_tokens} exceed the model's "
                f"{positions} positions: shorten the prompt or lower max_tokens."
            )

    def _decode(self, rows: list[_Row], prompts: list[tuple[int, ...]], requests: Sequence[GenerationRequest]) -> None:
        """Sample until every row has ended."""
        samplings = [requests[row.request].sampling for row in rows]
        sampler = TokenSampler(samplings, self.device)
        stops = [self._stop_strings(sampling.stop) for sampling in samplings]
        seeds = np.array([row.seed for row in rows], dtype=np.uint64)
        live = list(range(len(rows)))
        known = self._known_prefixes(rows, prompts, requests)
        logits, cache, mask, positions = self._prefill(rows, prompts, known)
        start = mask.shape[1] - 1
        while True:
            steps = np.array([len(rows[r].token_ids) for r in live])
            tokens, log_probs = sampler(logits, uniforms(seeds[live], steps))
            for r, token, log_prob in zip(live, tokens.tolist(), log_probs.tolist(), strict=True):
                self._append(rows[r], token, log_prob, samplings[r].max_tokens, stops[r])
            open_rows = [i for i, r in enumerate(live) if rows[r].finish_reason is None]
            leaving = len(open_rows) < COMPACT_BELOW * len(live)
            if known is not None and leaving:
                self._keep([None if rows[r].finish_reason is None else rows[r] for r in live], cache, start)
            if not open_rows:
                return
            if leaving:
                keep = torch.tensor(open_rows, device=self.device)
                live = [live[i] for i in open_rows]
                tokens, mask, positions = tokens[keep], mask[keep], positions[keep]
                sampler.select(keep)
                select_rows(cache, keep)
            positions = positions + 1
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            logits = self._forward(tokens[:, None], mask, positions, cache)

    def _stop_strings(self, stop: tuple[str, ...]) -> StopStrings:
        if stop not in self._stops:
            self._stops[stop] = StopStrings(self.tokenizer, stop)
        return self._stops[stop]

    def _append(self, row: _Row, token: int, log_prob: float, max_tokens: int, stop: StopStrings) -> None:
        """Record a sampled token and whether it ends the row; a row that has ended takes no more."""
        if row.finish_reason is not None:
            return
        row.token_ids.append(token)
        row.log_probs.append(log_prob)
        if token in self._eos or stop.ends(row.token_ids):
            row.finish_reason = "stop"
        elif len(row.token_ids) >= max_tokens:
            row.finish_reason = "length"

    def _prefill(
        self, rows: list[_Row], prompts: list[tuple[int, ...]], known: dict[int, Prefix | None] | None
    ) -> tuple[Tensor, Any, Tensor, Tensor]:
        """Compute each distinct prompt once, but for what is known of it, and repeat its cache for its samples.

        Args:
            rows: the samples.
            prompts: every prompt.
            known: the kept prefix of each prompt where prefixes are kept; ``None`` where they are not.
        """
        distinct = sorted({row.prompt for row in rows})
        texts = [prompts[p] for p in distinct]
        place = {p: i for i, p in enumerate(distinct)}
        reader = PromptReader(
            self.prefixes, lambda: decoding_cache(self.model.config, CACHE_SPARE), self._forward, self.device
        )
        if known is None:
            logits, cache, mask = reader.read(texts, [None] * len(texts))
        else:
            prefixes = reader.prefixes(texts, [known[p] for p in distinct])
            logits, cache, mask = reader.read([text[-1:] for text in texts], prefixes)
            for row in rows:
                row.prefix = prefixes[place[row.prompt]]
        repeat = torch.tensor([place[row.prompt] for row in rows], device=self.device)
        select_rows(cache, repeat)
        mask = mask[repeat]
        return logits[repeat], cache, mask, mask.sum(-1, keepdim=True) - 1

    def _known_prefixes(
        self, rows: list[_Row], prompts: list[tuple[int, ...]], requests: Sequence[GenerationRequest]
    ) -> dict[int, Prefix | None] | None:
        """Return what is kept of each prompt; ``None`` where nobody asked to keep anything."""
        if not (self.prefixes.enabled and any(requests[row.request].keep_prefix for row in rows)):
            return None
        known: dict[int, Prefix | None] = {}
        for row in rows:
            given = self.prefixes.usable(requests[row.request].prefix, len(prompts[row.prompt]))
            known[row.prompt] = known.get(row.prompt) or given
        return known

    def _keep(self, leaving: list[_Row | None], cache: Any, start: int) -> None:
        """Keep what has been read of rows that have ended (``None``: a row goes on), but for their last tokens."""
        ended = [(i, row) for i, row in enumerate(leaving) if row is not None]
        states = states_of(cache, torch.tensor([i for i, _ in ended], device=self.device), start)
        for (_, row), own in zip(ended, states, strict=True):
            row.prefix = self.prefixes.add(row.prefix, own[:, :, : len(row.token_ids)].clone())

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """Return the logits after the last position, [rows, vocabulary]."""
        out = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1]

    def _finish(self, row: _Row, request: GenerationRequest, prompt_ids: tuple[int, ...]) -> Generation:
        self.generated_tokens += len(row.token_ids)
        assert row.finish_reason is not None
        text = self.tokenizer.decode(row.token_ids, skip_special_tokens=True)
        text, stop_string = StopStrings.cut(text, request.sampling.stop)
        return Generation(
            text=text,
            token_ids=row.token_ids,
            log_probs=row.log_probs,
            finish_reason=row.finish_reason,
            policy_version=self.policy_version,
            prompt_ids=list(prompt_ids),
            stop_string=stop_string,
            prefix=row.prefix if request.keep_prefix else None,
        )

    def load_weights(self, source: Mapping[str, Tensor] | Path, version: int) -> None:
        """Copy full weights in (adapters merged) and report ``version`` with what is sampled from now on.

        Raises:
            ReasonEnvsError: a tensor is missing, unknown, or of another shape; an adapter's folder was given; or the
                engine's weights are quantized.
        """
        if "trainable" not in self.capabilities:
            raise ReasonEnvsError(QUANTIZED)
        if isinstance(source, Path):
            raise ReasonEnvsError(f"{ONE_SET_OF_WEIGHTS} Send merged weights, or use engine=vllm.")
        copy_weights(self.model, source)
        self.prefixes.clear()
        self.policy_version = version

    async def score(self, token_ids: list[int], prompt_length: int, temperature: float = 1.0) -> list[float]:
        """Return the log-probability of every token after the prompt, under the engine's weights."""
        ids = torch.tensor([token_ids], device=self.device)
        with torch.inference_mode():
            logits = self.model(input_ids=ids).logits[0, prompt_length - 1 : -1].float() / temperature
            return torch.log_softmax(logits, -1).gather(-1, ids[0, prompt_length:, None]).squeeze(-1).tolist()

    def weights_digest(self) -> str:
        """Hash the weights that generate."""
        return digest(self.model.state_dict())

    def close(self) -> None:
        """Free the model; closing again does nothing."""
        self._model = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
