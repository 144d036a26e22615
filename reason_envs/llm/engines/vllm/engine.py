"""The engine on vLLM, which runs in processes on this machine.

Requests go to vLLM at once, which decodes them together: a request of a later turn joins those that run already.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reason_envs.core import derive_seed
from reason_envs.errors import EngineError, unknown_name
from reason_envs.llm.chat import encode_prompt, response_text
from reason_envs.llm.engine import (
    BASE_MODEL,
    Capability,
    FinishReason,
    Generation,
    GenerationRequest,
    Sampling,
    TrainableEngine,
    check_length,
    closed_error,
)
from reason_envs.llm.engines.vllm.options import VllmEngineConfig, vllm_arguments
from reason_envs.llm.engines.vllm.process import VllmThread
from reason_envs.llm.engines.vllm.shared_buffer import SharedBuffer, buffer_file
from reason_envs.llm.loading import load_tokenizer, resolve_device, resolve_dtype
from reason_envs.llm.lora_files import check_adapter
from reason_envs.llm.stop_strings import StopStrings
from reason_envs.llm.weights import cast, check_weights, weight_shapes

CURRENT = "current"
"""Name of the adapter that is part of the engine's current weights."""
FINISH_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


class VllmEngine(TrainableEngine):
    """A causal language model in vLLM's processes.

    Each sample has its own seed, as in every engine. However, vLLM's rounding depends on the samples that it decodes at
    the same time, so a token can change if two tokens are almost equally likely. Log-probabilities of requests with
    top-p or top-k are ``None``, because vLLM computes them after these cuts.
    """

    continuous = True

    def __init__(self, config: VllmEngineConfig | None = None, **overrides: Any) -> None:
        self.config = config or VllmEngineConfig(**overrides)
        self.device = resolve_device(self.config.device)
        self.dtype = resolve_dtype(self.config.dtype, self.device)
        self.tokenizer = load_tokenizer(self.config.model, self.config.template_options)
        capabilities = {Capability.LOG_PROBS, Capability.TRAINABLE, Capability.EXTERNAL_ENGINE}
        self.capabilities = frozenset(capabilities | ({Capability.ADAPTERS} if self.config.max_lora_rank else set()))
        self.model_name = self.config.model
        self.policy_version = 0
        self.generated_tokens = 0
        """Number of tokens sampled since the engine was built."""
        self._shapes = weight_shapes(self.config.model)
        self._adapters: dict[str, Any] = {}
        self._numbers = itertools.count(1)
        self._buffer: SharedBuffer | None = None
        self._thread: VllmThread | None = VllmThread(vllm_arguments(self.config, self.device, self.dtype), self.device)
        self.thread.run(self.thread.call(self.thread.llm.update_weight_version, "0"))
        self.context_length: int = self.thread.llm.model_config.max_model_len

    @property
    def thread(self) -> VllmThread:
        """The thread that talks to vLLM. An error if the engine is closed."""
        if self._thread is None:
            raise closed_error(self)
        return self._thread

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Return ``request.n`` samples. If the caller is cancelled, vLLM stops working on them."""
        return await self.thread.answer(self._generate(request))

    async def _generate(self, request: GenerationRequest) -> list[Generation]:
        prompt = encode_prompt(self.tokenizer, request.prompt)
        check_length(len(prompt), request.sampling.max_tokens, self.context_length)
        adapter = self._adapter(request.adapter)
        parameters = [_parameters(request.sampling, derive_seed(request.seed, i)) for i in range(request.n)]
        outputs = await asyncio.gather(*(self.thread.generate(prompt, p, adapter) for p in parameters))
        return [self._finish(output.outputs[0], request, prompt) for output in outputs]

    def _adapter(self, name: str | None) -> Any:
        if name is None:
            return self._adapters.get(CURRENT)
        if name == BASE_MODEL:
            return None
        if name not in self._adapters:
            raise unknown_name("adapter", name, self._adapters)
        return self._adapters[name]

    def _finish(self, output: Any, request: GenerationRequest, prompt_ids: list[int]) -> Generation:
        if output.finish_reason not in FINISH_REASONS:
            raise EngineError(f"vLLM ended a sample with {output.finish_reason!r}. See its messages above.")
        token_ids = list(output.token_ids)
        self.generated_tokens += len(token_ids)
        text = response_text(self.tokenizer, request, tuple(prompt_ids), token_ids)
        return Generation(
            text=StopStrings.cut(text, request.sampling.stop)[0],
            token_ids=token_ids,
            log_probs=None if output.logprobs is None else list(output.logprobs.logprobs),
            finish_reason=FINISH_REASONS[output.finish_reason],
            policy_version=int(output.weight_versions[0].version),
            prompt_ids=list(prompt_ids),
            stop_string=output.stop_reason if isinstance(output.stop_reason, str) else None,  # a number is a token
        )

    async def score(
        self, token_ids: list[int], prompt_length: int, temperature: float = 1.0, adapter: str | None = None
    ) -> list[float]:
        """Return the log-probability of each token after the prompt (see `TrainableEngine.score`).

        With a temperature other than 1, vLLM returns the whole distribution at each position, which is slow.
        """
        check_length(len(token_ids), 1, self.context_length)
        wanted = 0 if temperature == 1 else -1
        parameters = _final(temperature=0, max_tokens=1, prompt_logprobs=wanted, detokenize=False)
        output = await self.thread.answer(self.thread.generate(token_ids, parameters, self._adapter(adapter)))
        rows = list(zip(token_ids, output.prompt_logprobs, strict=True))[prompt_length:]
        if temperature == 1:
            return [row[token].logprob for token, row in rows]
        return [_tempered(row, token, temperature) for token, row in rows]

    def load_weights(self, source: Mapping[str, Tensor] | Path, version: int, adapter: str | None = None) -> None:
        """Replace the full weights, which removes all adapters, or load a LoRA adapter from its folder.

        See `TrainableEngine.load_weights`.

        Raises:
            EngineError: a tensor is missing, unknown, or of another shape, or an adapter does not fit.
        """
        if isinstance(source, Path):
            self._check_adapter(adapter or CURRENT, source)
            self.thread.run(self._replace(partial(self._load_adapter, adapter or CURRENT, source), version))
        elif adapter:
            raise EngineError(f"The adapter {adapter!r} is loaded from its folder, not from full weights.")
        else:
            check_weights(self._shapes, source)
            self.thread.run(self._replace(partial(self._send, cast(source, self.dtype)), version))

    async def _replace(self, load: Callable[[], Awaitable[None]], version: int) -> None:
        """Load weights between requests: those that run end first, and new ones wait."""
        call, llm = self.thread.call, self.thread.llm
        await call(llm.pause_generation, mode="wait")  # forgets cached prefixes, too
        try:
            await load()
            await call(llm.update_weight_version, str(version))
            self.policy_version = version
        finally:
            await call(llm.resume_generation)

    async def _send(self, weights: Mapping[str, Tensor]) -> None:
        """Send full weights through memory that vLLM's workers share, by vLLM's protocol of weight transfer."""
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest, WeightTransferUpdateRequest

        call, llm = self.thread.call, self.thread.llm
        if self._buffer is None:
            with buffer_file(weights) as path:
                await call(llm.init_weight_transfer_engine, WeightTransferInitRequest({"path": path}))
                self._buffer = SharedBuffer(path)
        await call(llm.collective_rpc, "end_unfinished_update")
        await call(llm.start_weight_update)
        for content in self._buffer.fill(weights):
            await call(llm.update_weights, WeightTransferUpdateRequest({"tensors": content}))
        await call(llm.finish_weight_update)
        self._adapters.clear()

    def _check_adapter(self, name: str, folder: Path) -> None:
        if not self.config.max_lora_rank:
            raise EngineError("This engine was built without adapters. Set max_lora_rank to the rank of the adapter.")
        if len(self._adapters.keys() | {name}) > self.config.max_loras:
            raise EngineError(f"The adapter {name!r} exceeds max_loras={self.config.max_loras}. Increase max_loras.")
        check_adapter(folder, self._shapes, self.config.max_lora_rank)

    async def _load_adapter(self, name: str, folder: Path) -> None:
        """Load a LoRA adapter, and remove an earlier one with the same name."""
        from vllm.lora.request import LoRARequest

        number = next(self._numbers)
        unique = f"{name}-{number}"
        arguments = (name, unique, number, str(folder))
        await self.thread.call(self.thread.llm.collective_rpc, "receive_adapter", args=arguments)
        if name in self._adapters:
            await self.thread.call(self.thread.llm.remove_lora, self._adapters[name].lora_int_id)
        self._adapters[name] = LoRARequest(unique, number, str(folder))

    def weights_digest(self, adapter: str | None = None) -> str | None:
        """Return a hash of the named adapter. ``None``: of the current adapter, or of the full weights without one."""
        name = adapter or (CURRENT if CURRENT in self._adapters else "")
        if name not in self._adapters and (name or self._buffer is None):
            return None  # nothing was sent
        rpc = self.thread.call(self.thread.llm.collective_rpc, "received_digest", args=(name,))
        digests = set(self.thread.run(rpc))
        if len(digests) > 1:
            raise EngineError(f"vLLM's workers have different weights: {sorted(digests)}.")
        return digests.pop()

    def close(self) -> None:
        """End vLLM's processes. Further calls have no effect."""
        if self._thread is not None:
            self._thread.close()
            self._thread = None


def _parameters(sampling: Sampling, seed: int) -> Any:
    cut = sampling.temperature > 0 and (sampling.top_p < 1 or sampling.top_k > 0)
    return _final(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        stop=list(sampling.stop) or None,
        seed=seed,
        logprobs=None if cut else 0,
        flat_logprobs=True,
        detokenize=bool(sampling.stop),
    )


def _final(**options: Any) -> Any:
    """Return parameters of a request that is answered once, when it is complete."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, **options)


def _tempered(row: Mapping[int, Any], token: int, temperature: float) -> float:
    """Return the log-probability of a token at another temperature, from the distribution at temperature 1."""
    scaled = torch.tensor([entry.logprob for entry in row.values()], dtype=torch.float64) / temperature
    return row[token].logprob / temperature - float(torch.logsumexp(scaled, 0))
