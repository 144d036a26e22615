"""One adapter of an engine, used as an engine."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from reason_envs.llm.engine import BASE_MODEL, Capability, Generation, GenerationRequest, TrainableEngine


class AdapterView(TrainableEngine):
    """Sends every request to one adapter of an engine with `Capability.ADAPTERS`.

    Several views share one engine, so one set of full weights in memory serves several policies, or a policy and a
    frozen model. Their requests are batched together. Closing a view closes the engine. `load_weights` loads the
    adapter; ``BASE_MODEL`` selects the full weights without any adapter, which cannot be trained.
    """

    def __init__(self, engine: TrainableEngine, adapter: str) -> None:
        self.engine = engine
        self.adapter = adapter
        self.capabilities = engine.capabilities - ({Capability.TRAINABLE} if adapter == BASE_MODEL else set())
        self.tokenizer = engine.tokenizer
        self.context_length = engine.context_length
        self.model_name = engine.model_name
        self.dtype = engine.dtype

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Return ``request.n`` samples of the adapter."""
        return await self.engine.generate(replace(request, adapter=self.adapter))

    def load_weights(self, source: Mapping[str, Tensor] | Path, version: int, adapter: str | None = None) -> None:
        """Load the adapter from its folder."""
        self.engine.load_weights(source, version, self.adapter)

    async def score(
        self, token_ids: list[int], prompt_length: int, temperature: float = 1.0, adapter: str | None = None
    ) -> list[float]:
        """Return the log-probability of each token after the prompt, computed with the adapter."""
        return await self.engine.score(token_ids, prompt_length, temperature, self.adapter)

    def weights_digest(self, adapter: str | None = None) -> str | None:
        """Return a hash of the adapter as loaded last."""
        return self.engine.weights_digest(self.adapter)

    def close(self) -> None:
        """Close the engine, and with it all of its views."""
        self.engine.close()
