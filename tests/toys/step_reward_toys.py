"""A step reward model whose scores a Python function returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reason_envs.errors import EngineError
from reason_envs.reward_models.base import BatchedStepRewardModel, StepScoreRequest, StepScores


class ScriptedStepRewardModel(BatchedStepRewardModel):
    """A step reward model for tests: a Python function returns the scores, and each character counts as a token.

    The function maps a question and its steps to one score per step.
    """

    def __init__(self, function: Callable[[str, tuple[str, ...]], list[float]]) -> None:
        super().__init__()
        self._function = function

    def score_batch(self, requests: Sequence[StepScoreRequest]) -> list[StepScores]:
        """Call the function for each request. The tokens of equal requests are counted once."""
        self.scored_tokens += sum(map(self.count_tokens, dict.fromkeys(requests)))
        return [self._checked(request) for request in requests]

    def count_tokens(self, request: StepScoreRequest) -> int:
        """Return the number of characters."""
        return len(request.question) + sum(map(len, request.steps))

    def _checked(self, request: StepScoreRequest) -> StepScores:
        scores = self._function(request.question, request.steps)
        if len(scores) != len(request.steps) or not all(0 <= score <= 1 for score in scores):
            raise EngineError(
                f"The function returned {scores!r} for {len(request.steps)} steps. It must return one number in [0, 1] "
                "per step."
            )
        return StepScores(scores)
