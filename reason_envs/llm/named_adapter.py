"""One adapter of an engine that holds several, seen as an engine of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import Generation, GenerationRequest


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
