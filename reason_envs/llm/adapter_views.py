"""One adapter of an engine that holds several, seen as an engine of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import BASE_MODEL, Engine, Generation, GenerationRequest


class NamedAdapter:
    """Samples with one named adapter; requests of all names go into the same batches.

    Args:
        engine: holds adapters by name, as the one on vLLM does; closing this closes it.
        name: the adapter's, which ``load_weights`` loads.
    """

    def __init__(self, engine: Any, name: str) -> None:
        if "adapters" not in engine.capabilities:
            raise ReasonEnvsError(
                f"{type(engine).__name__} holds no adapters, so none can be named {name!r}: use engine=vllm with "
                "engine.max_lora_rank."
            )
        self.engine = engine
        self.name = name
        self.capabilities: frozenset[str] = engine.capabilities
        self.tokenizer = engine.tokenizer
        self.dtype = engine.dtype

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Return ``request.n`` samples of the adapter."""
        return await self.engine.generate(replace(request, adapter=self.name))

    def load_weights(self, source: Mapping[str, Tensor] | Path, version: int) -> None:
        """Load the adapter from its folder and report ``version`` with what is sampled from now on."""
        if not isinstance(source, Path):
            raise ReasonEnvsError(f"The adapter {self.name!r} is loaded from its folder, not from full weights.")
        self.engine.load_adapter(self.name, source)
        self.engine.policy_version = version

    async def score(self, token_ids: list[int], prompt_length: int, temperature: float = 1.0) -> list[float]:
        """Return the log-probability of every token after the prompt, under the adapter."""
        return await self.engine.score(token_ids, prompt_length, temperature, adapter=self.name)

    def weights_digest(self) -> str | None:
        """Hash the adapter that was loaded last under the name."""
        return self.engine.weights_digest(adapter=self.name)

    def close(self) -> None:
        """Free the model; closing again does nothing."""
        self.engine.close()


class BaseModel:
    """The same engine without its adapter: one set of weights in memory is policy and frozen model at once.

    Closing it does nothing: the engine belongs to whoever made it.

    Args:
        engine: holds adapters apart from the full weights (``engine=vllm engine.max_lora_rank=16``).

    Raises:
        ReasonEnvsError: the engine has no adapters, so that training would change these weights.
    """

    def __init__(self, engine: Engine) -> None:
        if "adapters" not in engine.capabilities:
            raise ReasonEnvsError(
                f"{type(engine).__name__} holds one set of weights, which training replaces: there is no frozen model "
                "under it. Use engine=vllm with engine.max_lora_rank=<rank>, or give the frozen model an engine of its "
                "own, such as {name: transformers, model: ...}."
            )
        self._engine = engine
        self.capabilities: frozenset[str] = engine.capabilities - {"trainable"}

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Return samples of the full weights; they are batched with the engine's other requests."""
        return await self._engine.generate(replace(request, adapter=BASE_MODEL))

    @property
    def tokenizer(self) -> Any:
        """The engine's tokenizer; ``None`` where it has none."""
        return getattr(self._engine, "tokenizer", None)

    @property
    def context_length(self) -> int | None:
        """Most tokens of prompt and response together; ``None`` where the engine does not tell."""
        return getattr(self._engine, "context_length", None)

    def close(self) -> None:
        """Leave the engine open."""
