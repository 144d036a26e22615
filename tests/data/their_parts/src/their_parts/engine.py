"""An engine: the one on transformers, which also counts its requests.

An engine implements `reason_envs.llm.engine.Engine`, or extends an engine that does, as this one. An entry point
registers it with the dataclass of its options, so that commands and ``make_engine`` know its name::

    python -m agents.train env=single_turn_math engine=their_engine engine.report=false
"""

from __future__ import annotations

from dataclasses import dataclass

from reason_envs.llm import ENGINES, Generation, GenerationRequest
from reason_envs.llm.engines.transformers.engine import TransformersEngine, TransformersEngineConfig


@dataclass
class CountingEngineConfig(TransformersEngineConfig):
    """Options of ``engine=their_engine``."""

    report: bool = True
    """Whether `close` prints the number of requests."""


class CountingEngine(TransformersEngine):
    """Counts requests."""

    config: CountingEngineConfig
    requests = 0

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Count the request and answer it."""
        self.requests += 1
        return await super().generate(request)

    def close(self) -> None:
        """Free the model and print the number of requests."""
        super().close()
        if self.config.report:
            print(f"their engine answered {self.requests} requests")


def register_engine() -> None:
    """Called by the entry point."""
    ENGINES.register("their_engine", CountingEngine, CountingEngineConfig)
