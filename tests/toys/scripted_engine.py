"""An engine for tests: a Python function writes the responses."""

from collections.abc import Callable, Sequence
from typing import Any

from reason_envs.batching import MicroBatcher
from reason_envs.core import derive_seed
from reason_envs.llm.engine import Capability, Engine, Generation, GenerationRequest
from reason_envs.llm.stop_strings import StopStrings

Script = Callable[[GenerationRequest, int], str]
"""Maps a request and the seed of one of its samples to the response text."""


class ScriptedEngine(Engine):
    """Answers with a Python function, a fixed response, or one of several that the sample's seed selects.

    Each Unicode code point is a token. No token ends a sequence.
    """

    capabilities = frozenset({Capability.LOG_PROBS})

    def __init__(self, script: str | Sequence[str] | Script) -> None:
        self._script = script
        self.generated_tokens = 0
        """Number of characters written since the engine was built."""
        self.batcher: MicroBatcher[GenerationRequest, list[Generation]] = MicroBatcher(self.generate_batch)

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Return ``request.n`` responses."""
        return await self.batcher(request)

    def generate_batch(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        """Answer several requests."""
        return [[self._answer(request, derive_seed(request.seed, i)) for i in range(request.n)] for request in requests]

    def _answer(self, request: GenerationRequest, seed: int) -> Generation:
        sampling = request.sampling
        text, stop_string = StopStrings.cut(self._text(request, seed)[: sampling.max_tokens], sampling.stop)
        tokens = text + (stop_string or "")
        self.generated_tokens += len(tokens)
        return Generation(
            text=text,
            token_ids=[ord(c) for c in tokens],
            log_probs=[0.0] * len(tokens),
            finish_reason="length" if stop_string is None and len(text) == sampling.max_tokens else "stop",
            policy_version=0,
            prompt_ids=_prompt_ids(request.prompt),
            stop_string=stop_string,
        )

    def _text(self, request: GenerationRequest, seed: int) -> str:
        if callable(self._script):
            return self._script(request, seed)
        return self._script if isinstance(self._script, str) else self._script[seed % len(self._script)]


def _prompt_ids(prompt: list[Any]) -> list[int]:
    if prompt and isinstance(prompt[0], int):
        return prompt
    return [ord(c) for message in prompt for c in message["content"]]
