"""An engine: ours on transformers, which counts what it was asked."""

from __future__ import annotations

from dataclasses import dataclass

from reason_envs.llm.engine import Generation, GenerationRequest
from reason_envs.llm.engines.transformers.engine import TransformersEngine, TransformersEngineConfig


@dataclass
class CountingEngineConfig(TransformersEngineConfig):
    """Options of ``engine=their_engine``."""


class CountingEngine(TransformersEngine):
    """Counts requests."""

    asked = 0

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Count, and answer."""
        CountingEngine.asked += 1
        return await super().generate(request)

    def close(self) -> None:
        """Tell the count."""
        print(f"their engine was asked {CountingEngine.asked} times")
        super().close()
