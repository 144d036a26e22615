"""The engine that answers from a record, without a model or a GPU."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from reason_envs.errors import EngineError
from reason_envs.llm import make_engine
from reason_envs.llm.engine import Capability, Engine, Generation, GenerationRequest
from reason_envs.llm.engines.recorded.record_file import RecordConfig, RecordFile
from reason_envs.validation import mounted

KIND = "generation"
"""Kind of an engine's entries in a record."""
RECORDED = frozenset({Capability.LOG_PROBS})
"""Capabilities that a record preserves."""
NOT_RECORDED = ("prompt_ids", "prefix_cache", "prompt_prefix_cache")
"""Fields of a generation that are not written for each sample."""


@dataclass
class RecordedEngineConfig(RecordConfig):
    """Options of ``engine=recorded``."""


class RecordedEngine(Engine):
    """Answers requests from a record by their seeds. With a live engine it creates the record.

    A seed identifies the place in an episode at which a request is made. Therefore the same episodes get the same
    answers, in any order and together with any other requests. The engine accepts no new weights, because a record
    belongs to the weights that answered. It has no tokenizer: chat messages are passed to the live engine unchanged.
    """

    def __init__(self, config: RecordedEngineConfig | None = None, **overrides: Any) -> None:
        self.config = config or RecordedEngineConfig(**overrides)
        with mounted("live"):
            self.live: Engine | None = None if self.config.live is None else make_engine(self.config.live)
        self.record = RecordFile(self.config.path, KIND, None if self.live is None else describe(self.live))
        self.capabilities = RECORDED & {*self.record.source.get("capabilities", ())}
        self.context_length = self.record.source.get("context_length")
        self.embedding_size = self.record.source.get("embedding_size", 0)
        self.generated_tokens = 0
        """Number of tokens of all returned samples, including recorded ones."""

    def can_answer(self, seed: int) -> bool:
        """Return whether one sample with this seed is recorded. A live engine can answer every seed."""
        return self.live is not None or _key(seed, 1) in self.record

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Return ``request.n`` samples, from the record if it contains them.

        Raises:
            EngineError: the record has this seed with another prompt or other sampling parameters.
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

    async def check_server(self) -> None:
        """Check the server of the live engine."""
        if self.live is not None:
            await self.live.check_server()

    def _read(self, key: str, request: GenerationRequest) -> list[Generation]:
        entry = self.record[key]
        if entry["request"] != _digest(request):
            raise EngineError(
                f"The record {str(self.record.path)!r} has another request with seed {request.seed}: its prompt or "
                f"its sampling parameters differ from {request.sampling}. Set the options with which the record was "
                "made (model, system_prompt, temperature, max_step_tokens, separator, ...), or make a new record."
            )
        prompt_ids = entry.get("prompt_ids", request.prompt)
        return [Generation(**sample, prompt_ids=prompt_ids) for sample in entry["samples"]]

    def close(self) -> None:
        """Close the record and the live engine."""
        self.record.close()
        if self.live is not None:
            self.live.close()


def describe(engine: Engine) -> dict[str, Any]:
    """Return the description of an engine that is stored in a record."""
    return {
        "model": engine.model_name or type(engine).__name__,
        "digest": engine.weights_digest(),
        "context_length": engine.context_length,
        "capabilities": sorted(engine.capabilities & RECORDED),
        **({"embedding_size": engine.embedding_size} if engine.embedding_size else {}),
    }


def _key(seed: int, n: int) -> str:
    return f"{seed}/{n}"


def _digest(request: GenerationRequest) -> str:
    """Hash the parts of a request that must be the same for the same seed."""
    parts = [request.prompt, vars(request.sampling), request.adapter]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()


def _entry(request: GenerationRequest, samples: list[Generation]) -> dict[str, Any]:
    """Return the entry for an answer. Prompt tokens are stored only if the engine made them from messages."""
    entry: dict[str, Any] = {"request": _digest(request)}
    if not (request.prompt and isinstance(request.prompt[0], int)):
        entry["prompt_ids"] = samples[0].prompt_ids
    skipped = NOT_RECORDED if samples[0].embedding else (*NOT_RECORDED, "embedding")
    entry["samples"] = [{k: v for k, v in vars(sample).items() if k not in skipped} for sample in samples]
    return entry
