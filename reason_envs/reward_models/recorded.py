"""The step reward model that returns recorded scores, without a model."""

import hashlib
import json
from typing import Any

from reason_envs.errors import EngineError
from reason_envs.llm.engines.recorded.record_file import RecordConfig, RecordFile
from reason_envs.reward_models.base import StepRewardModel, StepScoreRequest, StepScores, make_reward_model
from reason_envs.validation import mounted

KIND = "step_scores"
"""Kind of a step reward model's entries in a record."""


class RecordedStepRewardModel(StepRewardModel):
    """Returns scores from a record by question and steps. With a live model it creates the record."""

    def __init__(self, config: RecordConfig | None = None, **overrides: Any) -> None:
        self.config = config or RecordConfig(**overrides)
        with mounted("live"):
            live = self.config.live
            self.live: StepRewardModel | None = None if live is None else make_reward_model(live)
        self.record = RecordFile(self.config.path, KIND, None if self.live is None else describe(self.live))

    async def score(self, request: StepScoreRequest) -> StepScores:
        """Score each step. ``scored_tokens`` counts the tokens that the model read, or would have read.

        Raises:
            EngineError: the scores are not recorded, and there is no live model.
        """
        if not request.steps:
            return StepScores([])
        key, fresh = _key(request), None
        if key not in self.record and self.live is not None:
            fresh = await self.live.score(request)
            self.record.add(key, {"scores": fresh.scores, "tokens": self.live.count_tokens(request)})
        entry = self._read(key, request)
        self.scored_tokens += entry["tokens"]
        return StepScores(entry["scores"]) if fresh is None else fresh

    def count_tokens(self, request: StepScoreRequest) -> int:
        """Return the number of tokens that the model reads to score a single request."""
        key = _key(request)
        if key not in self.record and self.live is not None:
            return self.live.count_tokens(request)
        return self._read(key, request)["tokens"]

    def _read(self, key: str, request: StepScoreRequest) -> dict[str, Any]:
        if key not in self.record:
            raise EngineError(
                f"The record {str(self.record.path)!r} has no scores for {request}: it was made with other requests or "
                "without a step reward model. Set the option live to a model that scores them."
            )
        return self.record[key]

    def close(self) -> None:
        """Close the record and the live model."""
        self.record.close()
        if self.live is not None:
            self.live.close()


def describe(reward_model: StepRewardModel) -> dict[str, Any]:
    """Return the description of a step reward model that is stored in a record."""
    return {"model": reward_model.model_name or type(reward_model).__name__, "digest": reward_model.weights_digest()}


def _key(request: StepScoreRequest) -> str:
    return hashlib.blake2b(json.dumps([request.question, request.steps]).encode(), digest_size=16).hexdigest()
