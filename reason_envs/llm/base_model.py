"""The model under an engine's adapter, frozen, while the adapter on top of it is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import BASE_MODEL, Engine, Generation, GenerationRequest


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
