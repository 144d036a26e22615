"""The engine that answers from a record, without a model and without a GPU."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import make_engine
from reason_envs.llm.engine import Capability, Engine, Generation, GenerationRequest
from reason_envs.llm.engines.recorded.record_file import RecordFile
from reason_envs.validation import mounted

KIND = "generation"
"""Of an engine's entries in a record."""
RECORDED = frozenset({Capability.LOG_PROBS})
"""The capabilities that a record keeps."""


@dataclass
class RecordedEngineConfig:
    """Options of ``engine=recorded``."""

    path: str = ""
    """The record's file."""
    live: Any = None
    """Engine that answers what the record does not hold, and is recorded: a name, a mapping of its ``name`` and
    options, or an engine. ``None``: such a request is answered by ``finish_reason="exhausted"`` and no tokens."""

    def __post_init__(self) -> None:
        if not self.path:
            raise ReasonEnvsError("engine.path='' must name the record's file.")


class RecordedEngine(Engine):
    """Answers requests by their seed from a record; with a live engine it makes the record.

    Seeds say where in an episode a request was made, so the same episodes are answered the same, whatever the order and
    whoever else asks. It takes no new weights: a record belongs to the weights that answered. Chat messages go to the
    live engine as they are, and so it has no tokenizer.
    """

    def __init__(self, config: RecordedEngineConfig | None = None, **overrides: Any) -> None:
        self.config = config or RecordedEngineConfig(**overrides)
        with mounted("live"):
            self.live: Engine | None = None if self.config.live is None else make_engine(self.config.live)
        self.record = RecordFile(self.config.path, KIND, None if self.live is None else describe(self.live))
        self.capabilities = RECORDED & {*self.record.source.get("capabilities", ())}
        self.context_length = self.record.source.get("context_length")
        self.generated_tokens = 0
        """Every token of the samples handed out, recorded ones included."""

    def can_answer(self, seed: int) -> bool:
        """Return whether one sample with this seed is recorded. With a live engine every seed can be answered."""
        return self.live is not None or _key(seed, 1) in self.record

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Return ``request.n`` samples, recorded ones where there are such.

        Raises:
            ReasonEnvsError: the record holds another prompt or sampling under this seed.
        """
        key, caches = _key(request.seed, request.n), [(None, None)] * request.n
        if key not in self.record:
            if self.live is None:
                return [Generation("", [], [], "exhausted", 0, []) for _ in range(request.n)]
            answers = await self.live.generate(request)
            self.record.add(key, _entry(request, answers))
            caches = [(answer.prefix_cache, answer.prompt_prefix_cache) for answer in answers]
        samples = [
            replace(sample, prefix_cache=cache, prompt_prefix_cache=prompt_cache)
            for sample, (cache, prompt_cache) in zip(self._read(key, request), caches, strict=True)
        ]
        self.generated_tokens += sum(sample.generated_tokens for sample in samples)
        return samples

    def _read(self, key: str, request: GenerationRequest) -> list[Generation]:
        entry = self.record[key]
        if entry["request"] != _digest(request):
            raise ReasonEnvsError(
                f"The record {str(self.record.path)!r} holds another request under seed {request.seed}: other messages "
                f"or tokens, or another sampling than {request.sampling}. Set the options it was made with (model, "
                "system_prompt, temperature, max_step_tokens, separator, ...), or make another record."
            )
        prompt_ids = entry.get("prompt_ids", request.prompt)
        return [Generation(**sample, prompt_ids=prompt_ids) for sample in entry["samples"]]

    def close(self) -> None:
        """Close the record, and free the live engine."""
        self.record.close()
        if self.live is not None:
            self.live.close()


NOT_WRITTEN = ("prompt_ids", "prefix_cache", "prompt_prefix_cache")
"""What a record does not repeat for every sample."""


def describe(engine: Engine) -> dict[str, Any]:
    """Return what a record says about the engine that answered."""
    return {
        "model": engine.model_name or type(engine).__name__,
        "digest": engine.weights_digest(),
        "context_length": engine.context_length,
        "capabilities": sorted(engine.capabilities & RECORDED),
    }


def _key(seed: int, n: int) -> str:
    return f"{seed}/{n}"


def _digest(request: GenerationRequest) -> str:
    """Hash what a seed must not change the meaning of."""
    asked = [request.prompt, vars(request.sampling), request.adapter]
    return hashlib.blake2b(json.dumps(asked).encode(), digest_size=8).hexdigest()


def _entry(request: GenerationRequest, samples: list[Generation]) -> dict[str, Any]:
    """Write an answer; the tokens of a prompt are kept only where the engine made them from messages."""
    entry: dict[str, Any] = {"request": _digest(request)}
    if not (request.prompt and isinstance(request.prompt[0], int)):
        entry["prompt_ids"] = samples[0].prompt_ids
    entry["samples"] = [{k: v for k, v in vars(sample).items() if k not in NOT_WRITTEN} for sample in samples]
    return entry
