"""The engine on vLLM, which runs in processes on this machine.

The engine calls vLLM's synchronous ``LLM`` through a `MicroBatcher`, not its asynchronous server. Environments step
together, so their requests arrive together. This way, batches are the same in every run and do not depend on an event
loop.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from reason_envs.batching import MicroBatcher
from reason_envs.core import derive_seed
from reason_envs.errors import EngineError, unknown_name
from reason_envs.llm.chat import encode_prompt
from reason_envs.llm.engine import (
    BASE_MODEL,
    Capability,
    ContextLengthError,
    FinishReason,
    Generation,
    GenerationRequest,
    Sampling,
    TrainableEngine,
    closed_error,
)
from reason_envs.llm.engines.vllm.options import VllmEngineConfig, vllm_arguments
from reason_envs.llm.engines.vllm.process import call_vllm, start_vllm
from reason_envs.llm.engines.vllm.worker import FULL, WEIGHTS_FILE
from reason_envs.llm.loading import load_tokenizer, resolve_device, resolve_dtype
from reason_envs.llm.lora_files import check_adapter
from reason_envs.llm.stop_strings import StopStrings
from reason_envs.llm.weights import check_weights, weight_shapes

CURRENT = "current"
"""Name of the adapter that is part of the engine's current weights."""
FINISH_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


class VllmEngine(TrainableEngine):
    """A causal language model in vLLM's processes.

    Each sample has its own seed, as in every engine. However, vLLM's rounding may depend on the batch, so a token can
    change if two tokens are almost equally likely. Log-probabilities of requests with top-p or top-k are ``None``,
    because vLLM computes them after these cuts.
    """

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
        self.batcher: MicroBatcher[GenerationRequest, list[Generation]] = MicroBatcher(self.generate_batch)
        self._shapes = weight_shapes(self.config.model)
        self._adapters: dict[str, Any] = {}
        self._numbers = itertools.count(1)
        self._llm: Any = start_vllm(vllm_arguments(self.config, self.device, self.dtype), self.device)
        call_vllm(self._llm.collective_rpc, "end_with", args=(os.getpid(),))
        self.context_length: int = self._llm.model_config.max_model_len

    @property
    def llm(self) -> Any:
        """The ``LLM`` of vLLM. An error if the engine is closed."""
        if self._llm is None:
            raise closed_error(self)
        return self._llm

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Return ``request.n`` samples. Requests that wait together are decoded together."""
        return await self.batcher(request)

    def generate_batch(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        """Answer several requests with one call of vLLM."""
        prompts = [encode_prompt(self.tokenizer, request.prompt) for request in requests]
        for request, prompt in zip(requests, prompts, strict=True):
            self._check_length(len(prompt), request.sampling.max_tokens)
        rows = [(r, i) for r, request in enumerate(requests) for i in range(request.n)]
        outputs = self._run(
            [prompts[r] for r, _ in rows],
            [_parameters(requests[r].sampling, derive_seed(requests[r].seed, i)) for r, i in rows],
            [self._adapter(requests[r].adapter) for r, _ in rows],
        )
        answers: list[list[Generation]] = [[] for _ in requests]
        for (r, _), output in zip(rows, outputs, strict=True):
            answers[r].append(self._finish(output.outputs[0], requests[r], prompts[r]))
        return answers

    def _run(self, prompts: list[list[int]], parameters: list[Any], adapters: list[Any]) -> list[Any]:
        inputs: Any = [{"prompt_token_ids": ids} for ids in prompts]
        return call_vllm(self.llm.generate, inputs, parameters, lora_request=adapters, use_tqdm=False)

    def _check_length(self, prompt: int, response: int) -> None:
        if prompt + response > self.context_length:
            raise ContextLengthError(
                f"A prompt of {prompt} tokens and max_tokens={response} exceed the engine's context length of "
                f"{self.context_length}. Shorten the prompt, reduce max_tokens, or increase max_model_len if the model "
                "supports it."
            )

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
        text = self.tokenizer.decode(token_ids, skip_special_tokens=True)
        return Generation(
            text=StopStrings.cut(text, request.sampling.stop)[0],
            token_ids=token_ids,
            log_probs=None if output.logprobs is None else list(output.logprobs.logprobs),
            finish_reason=FINISH_REASONS[output.finish_reason],
            policy_version=self.policy_version,
            prompt_ids=list(prompt_ids),
            stop_string=output.stop_reason if isinstance(output.stop_reason, str) else None,  # a number is a token
        )

    async def score(
        self, token_ids: list[int], prompt_length: int, temperature: float = 1.0, adapter: str | None = None
    ) -> list[float]:
        """Return the log-probability of each token after the prompt (see `TrainableEngine.score`).

        With a temperature other than 1, vLLM returns the whole distribution at each position, which is slow.
        """
        from vllm import SamplingParams

        self._check_length(len(token_ids), 1)
        wanted = 0 if temperature == 1 else -1
        parameters = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=wanted, detokenize=False)
        (output,) = self._run([token_ids], [parameters], [self._adapter(adapter)])
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
            self._load_adapter(adapter or CURRENT, source)
        elif adapter:
            raise EngineError(f"The adapter {adapter!r} is loaded from its folder, not from full weights.")
        else:
            self._load_full(source)
        self.policy_version = version

    def _load_full(self, source: Mapping[str, Tensor]) -> None:
        check_weights(self._shapes, source)
        with tempfile.TemporaryDirectory() as folder:
            # Copies, because the file format does not support tied tensors, which share memory.
            tensors = {n: t.detach().to("cpu", self._stored(t), copy=True).contiguous() for n, t in source.items()}
            save_file(tensors, Path(folder) / WEIGHTS_FILE)
            call_vllm(self.llm.collective_rpc, "receive_weights", args=(folder,))
        self._adapters.clear()
        self._forget_prefixes()

    def _stored(self, tensor: Tensor) -> torch.dtype:
        return self.dtype if tensor.is_floating_point() else tensor.dtype

    def _load_adapter(self, name: str, folder: Path) -> None:
        """Load a LoRA adapter, and remove an earlier one with the same name."""
        from vllm.lora.request import LoRARequest

        if not self.config.max_lora_rank:
            raise EngineError("This engine was built without adapters. Set max_lora_rank to the rank of the adapter.")
        if len(self._adapters.keys() | {name}) > self.config.max_loras:
            raise EngineError(f"The adapter {name!r} exceeds max_loras={self.config.max_loras}. Increase max_loras.")
        check_adapter(folder, self._shapes, self.config.max_lora_rank)
        number = next(self._numbers)
        unique = f"{name}-{number}"
        call_vllm(self.llm.collective_rpc, "receive_adapter", args=(name, unique, number, str(folder)))
        if name in self._adapters:
            call_vllm(self.llm.llm_engine.remove_lora, self._adapters[name].lora_int_id)
        self._adapters[name] = LoRARequest(unique, number, str(folder))
        self._forget_prefixes()

    def _forget_prefixes(self) -> None:
        if not call_vllm(self.llm.reset_prefix_cache):
            raise EngineError("vLLM did not reset its prefix cache after new weights: requests are still running.")

    def weights_digest(self, adapter: str | None = None) -> str | None:
        """Return a hash of the named adapter. ``None``: of the current adapter, or of the full weights without one."""
        name = adapter or (CURRENT if CURRENT in self._adapters else FULL)
        digests = set(call_vllm(self.llm.collective_rpc, "received_digest", args=(name,)))
        if len(digests) > 1:
            raise EngineError(f"vLLM's workers have different weights: {sorted(map(str, digests))}.")
        return digests.pop()

    def close(self) -> None:
        """End vLLM's processes. Further calls have no effect."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None


def _parameters(sampling: Sampling, seed: int) -> Any:
    from vllm import SamplingParams

    cut = sampling.temperature > 0 and (sampling.top_p < 1 or sampling.top_k > 0)
    return SamplingParams(
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


def _tempered(row: Mapping[int, Any], token: int, temperature: float) -> float:
    """Return the log-probability of a token at another temperature, from the distribution at temperature 1."""
    scaled = torch.tensor([entry.logprob for entry in row.values()], dtype=torch.float64) / temperature
    return row[token].logprob / temperature - float(torch.logsumexp(scaled, 0))
