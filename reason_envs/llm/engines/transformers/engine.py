"""The in-process engine on Hugging Face transformers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reason_envs.batching import MicroBatcher
from reason_envs.core import derive_seed
from reason_envs.errors import EngineError
from reason_envs.llm.chat import encode_prompt, eos_ids, max_positions, response_text
from reason_envs.llm.engine import (
    Capability,
    Generation,
    GenerationRequest,
    TrainableEngine,
    check_length,
    closed_error,
)
from reason_envs.llm.engines.transformers.decoding import Decoder, Row
from reason_envs.llm.engines.transformers.grouped_attention import use_grouped_attention
from reason_envs.llm.engines.transformers.options import TransformersEngineConfig
from reason_envs.llm.loading import (
    check_vocabulary,
    is_quantized,
    load_model,
    load_tokenizer,
    resolve_device,
    resolve_dtype,
)
from reason_envs.llm.prefix_cache import PrefixStore
from reason_envs.llm.stop_strings import StopStrings
from reason_envs.llm.weights import cast, copy_weights, digest

ONE_SET_OF_WEIGHTS = "The engine transformers holds one set of weights and no adapters."


class TransformersEngine(TrainableEngine):
    """A causal language model in this process.

    A sample depends only on the seed and the prompt of its request. In float32, a request gets the same tokens alone
    and in a batch.
    """

    def __init__(self, config: TransformersEngineConfig | None = None, **overrides: Any) -> None:
        self.config = config or TransformersEngineConfig(**overrides)
        self.device = resolve_device(self.config.device)
        self.tokenizer = load_tokenizer(self.config.model, self.config.template_options)
        self.dtype = resolve_dtype(self.config.dtype, self.device)
        model = load_model(
            self.config.model,
            device=self.device,
            dtype=self.dtype,
            attention=self.config.attention,
            load_in_8bit=self.config.load_in_8bit,
            load_in_4bit=self.config.load_in_4bit,
        )
        check_vocabulary(self.config.model, model, self.tokenizer)
        if model.config._attn_implementation == "sdpa":
            use_grouped_attention(model)
        trainable = set() if is_quantized(model) else {Capability.TRAINABLE}
        self.capabilities = frozenset({Capability.LOG_PROBS} | trainable)
        self.context_length = max_positions(model)
        self.model_name = self.config.model
        self.embedding_size = self.config.embedding_size
        self.policy_version = 0
        self.generated_tokens = 0
        """Number of tokens sampled since the engine was built."""
        self.prefixes = PrefixStore(model.config, self.config.prefix_cache_mb << 20)
        eos = eos_ids(model, self.tokenizer)
        self._decoder: Decoder | None = Decoder(model, self.tokenizer, eos, self.prefixes, self.embedding_size)
        self.batcher: MicroBatcher[GenerationRequest, list[Generation]] = MicroBatcher(self.generate_batch)

    @property
    def decoder(self) -> Decoder:
        """The decoder. An error if the engine is closed."""
        if self._decoder is None:
            raise closed_error(self)
        return self._decoder

    @property
    def model(self) -> Any:
        """The language model. An error if the engine is closed."""
        return self.decoder.model

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Return ``request.n`` samples. Requests that wait together are decoded together."""
        return await self.batcher(request)

    @torch.inference_mode()
    def generate_batch(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        """Answer several requests. Equal prompts are read once."""
        prompts: dict[tuple[int, ...], int] = {}
        rows: list[Row] = []
        for index, request in enumerate(requests):
            ids = tuple(encode_prompt(self.tokenizer, request.prompt))
            _refuse_adapter(request.adapter)
            check_length(len(ids), request.sampling.max_tokens, self.context_length)
            prompt = prompts.setdefault(ids, len(prompts))
            rows += [Row(index, derive_seed(request.seed, i), prompt, [], []) for i in range(request.n)]
        prompt_ids = list(prompts)
        order = sorted(range(len(rows)), key=lambda r: (len(prompt_ids[rows[r].prompt]), rows[r].prompt))
        for start in range(0, len(order), self.config.max_batch_size):
            chunk = [rows[r] for r in order[start : start + self.config.max_batch_size]]
            self.decoder.decode(chunk, prompt_ids, requests)
            self.prefixes.trim()
        self.reread_tokens = self.prefixes.reread_tokens
        answers: list[list[Generation]] = [[] for _ in requests]
        for row in rows:
            answers[row.request].append(self._finish(row, requests[row.request], prompt_ids[row.prompt]))
        return answers

    def _finish(self, row: Row, request: GenerationRequest, prompt_ids: tuple[int, ...]) -> Generation:
        self.generated_tokens += len(row.token_ids)
        assert row.finish_reason is not None
        text = response_text(self.tokenizer, request, prompt_ids, row.token_ids)
        text, stop_string = StopStrings.cut(text, request.sampling.stop)
        return Generation(
            text=text,
            token_ids=row.token_ids,
            log_probs=row.log_probs,
            finish_reason=row.finish_reason,
            policy_version=self.policy_version,
            prompt_ids=list(prompt_ids),
            stop_string=stop_string,
            embedding=row.embedding,
            prefix_cache=row.prefix if request.keep_prefix else None,
            prompt_prefix_cache=row.prefix.parent if request.keep_prefix and row.prefix else None,
        )

    def load_weights(self, source: Mapping[str, Tensor] | Path, version: int, adapter: str | None = None) -> None:
        """Replace the full weights (see `TrainableEngine.load_weights`).

        Raises:
            EngineError: the tensors do not fit, ``source`` is an adapter, or the engine's weights are quantized.
        """
        if Capability.TRAINABLE not in self.capabilities:
            raise EngineError("Quantized weights cannot be replaced: leave out load_in_8bit and load_in_4bit to train.")
        _refuse_adapter(adapter)
        if isinstance(source, Path):
            raise EngineError(f"{ONE_SET_OF_WEIGHTS} Send merged weights, or use the engine vllm.")
        copy_weights(self.model, source)
        self.prefixes.trim(0)
        self.policy_version = version

    def share_weights(self, source: Mapping[str, Tensor]) -> None:
        """Use the tensors of ``source`` in place of those with the same name, shape, data type and device."""
        for name, own in self.model.named_parameters():
            theirs = source.get(name, own)
            if (theirs.shape, theirs.dtype, theirs.device) == (own.shape, own.dtype, own.device):
                own.data = theirs.detach()

    async def score(
        self, token_ids: list[int], prompt_length: int, temperature: float = 1.0, adapter: str | None = None
    ) -> list[float]:
        """Return the log-probability of each token after the prompt (see `TrainableEngine.score`)."""
        _refuse_adapter(adapter)
        ids = torch.tensor([token_ids], device=self.device)
        with torch.inference_mode():
            logits = self.model(input_ids=ids).logits[0, prompt_length - 1 : -1].float() / temperature
            return torch.log_softmax(logits, -1).gather(-1, ids[0, prompt_length:, None]).squeeze(-1).tolist()

    def weights_digest(self, adapter: str | None = None) -> str:
        """Return a hash of the weights in the engine's data type."""
        _refuse_adapter(adapter)
        return digest(cast(self.model.state_dict(), self.dtype))

    def close(self) -> None:
        """Free the model. Further calls have no effect."""
        self._decoder = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _refuse_adapter(adapter: str | None) -> None:
    if adapter:
        raise EngineError(f"{ONE_SET_OF_WEIGHTS} Use the engine vllm for adapters.")
