"""The step reward model that answers from a record, without a model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engines.recorded.record_file import RecordFile
from reason_envs.reward_models.base import StepRewardModel, StepScoreRequest, StepScores, make_reward_model
from reason_envs.validation import mounted

KIND = "step_scores"
"""Of a step reward model's entries in a record."""


@dataclass
class RecordedStepRewardModelConfig:
    """Options of ``reward_model=recorded``."""

    path: str = ""
    """The record's file; the generator's answers may stand in the same one."""
    live: Any = None
    """Step reward model that scores what the record does not hold, and is recorded: a name, a mapping of its ``name``
    and options, or a model. ``None``: such a request is an error."""

    def __post_init__(self) -> None:
        if not self.path:
            raise ReasonEnvsError("reward_model.path='' must name the record's file.")


class RecordedStepRewardModel(StepRewardModel):
    """Answers by the question and the steps from a record; with a live model it makes the record."""

    def __init__(self, config: RecordedStepRewardModelConfig | None = None, **overrides: Any) -> None:
        self.config = config or RecordedStepRewardModelConfig(**overrides)
        with mounted("live"):
            live = self.config.live
            self.live: StepRewardModel | None = None if live is None else make_reward_model(live)
        self.record = RecordFile(self.config.path, KIND, None if self.live is None else describe(self.live))
        self.calls = 0
        """Number of requests answered."""

    async def score(self, request: StepScoreRequest) -> StepScores:
        """Return, for each step, the probability in [0, 1] that it is right.

        Raises:
            ReasonEnvsError: the record does not hold it, and there is no live model.
        """
        if not request.steps:
            return StepScores([])
        key, fresh = _key(request), None
        if key not in self.record and self.live is not None:
            fresh = await self.live.score(request)
            self.record.add(key, {"scores": fresh.scores, "tokens": self.live.count_tokens(request)})
        entry = self._read(key, request)
        self.calls += 1
        self.scored_tokens += entry["tokens"]
        return StepScores(entry["scores"]) if fresh is None else fresh

    def count_tokens(self, request: StepScoreRequest) -> int:
        """Return how many tokens the model reads to score a request alone."""
        key = _key(request)
        if key not in self.record and self.live is not None:
            return self.live.count_tokens(request)
        return self._read(key, request)["tokens"]

    def _read(self, key: str, request: StepScoreRequest) -> dict[str, Any]:
        if key not in self.record:
            raise ReasonEnvsError(
                f"The record {str(self.record.path)!r} holds no scores of {request}: it was made with another step "
                "reward model or without one. Set reward_model.live to the model that scores them."
            )
        return self.record[key]

    def close(self) -> None:
        """Close the record, and free the live model."""
        self.record.close()
        if self.live is not None:
            self.live.close()


def describe(reward_model: StepRewardModel) -> dict[str, Any]:
    """Return what a record says about the model that scored."""
    return {
        "model": reward_model.model_name or type(reward_model).__name__,
        "digest": reward_model.weights_digest(),
    }


def _key(request: StepScoreRequest) -> str:
    asked = json.dumps([request.question, request.steps])
    return hashlib.blake2b(asked.encode(), digest_size=16).hexdigest()
