"""Step reward models (process reward models): how likely each step of a solution is right."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from reason_envs.batching import MicroBatcher
from reason_envs.core import derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.registry import Plugin, Registry

REWARD_MODELS = Registry(
    "reward_model",
    {
        "transformers": Plugin(
            "reason_envs.reward_models.transformers:TransformersStepRewardModel",
            "reason_envs.reward_models.transformers:StepRewardModelConfig",
        ),
        "recorded": Plugin(
            "reason_envs.reward_models.recorded:RecordedStepRewardModel",
            "reason_envs.reward_models.recorded:RecordedStepRewardModelConfig",
        ),
        "random": Plugin(
            "reason_envs.reward_models.base:RandomStepRewardModel",
            "reason_envs.reward_models.base:RandomStepRewardModelConfig",
        ),
    },
)
"""Step reward models by name; ``REWARD_MODELS.register(name, reward_model, config)`` adds one."""


@dataclass(frozen=True)
class StepScoreRequest:
    """A problem and the steps of a solution so far."""

    question: str
    """The problem as the generator's user message states it."""
    steps: tuple[str, ...]
    """The steps in order, without their separators."""
    keep_prefix: bool = field(default=False, compare=False)
    """Ask for ``StepScores.known``, which requests that continue these steps can give back."""
    known: Any = field(default=None, compare=False, repr=False)
    """The ``known`` of earlier scores of this model for the question and the first of the steps: what need not be read
    again. It changes nothing but time, and rounding."""


class StepScores(list[float]):
    """One score a step; models that keep what they have read say how to go on from there."""

    known: Any = None
    """For requests that continue the steps."""
    known_question: Any = None
    """For requests about the same question."""


@runtime_checkable
class StepRewardModel(Protocol):
    """Scores the steps of solutions, batching the requests that wait together."""

    scored_tokens: int
    """Tokens read since the start; equal requests of one call are read once."""
    calls: int
    """Batches answered since the start."""

    async def score(self, request: StepScoreRequest) -> StepScores:
        """Return, for each step, the probability in [0, 1] that it is right; no steps, no scores.

        The score of a step depends on the question and on the steps up to it.
        """
        ...

    def count_tokens(self, request: StepScoreRequest) -> int:
        """Return how many tokens the model reads to score a request alone."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


class BatchedStepRewardModel(ABC):
    """What our step reward models share: requests that wait together are scored by one call."""

    def __init__(self) -> None:
        self.scored_tokens = 0
        self.batcher: MicroBatcher[StepScoreRequest, StepScores] = MicroBatcher(self.score_batch)

    @property
    def calls(self) -> int:
        """Batches answered since the start."""
        return self.batcher.calls

    async def score(self, request: StepScoreRequest) -> StepScores:
        """Return, for each step, the probability in [0, 1] that it is right."""
        return await self.batcher(request)

    @abstractmethod
    def score_batch(self, requests: Sequence[StepScoreRequest]) -> list[StepScores]:
        """Score many requests at once."""

    def count_tokens(self, request: StepScoreRequest) -> int:
        """Return how many tokens the model reads to score a request alone: none, where there is no language model."""
        return 0

    def close(self) -> None:  # noqa: B027  (only models with weights have something to free)
        """Free the model."""


@dataclass
class RandomStepRewardModelConfig:
    """Options of ``reward_model=random``."""

    seed: int = 0
    """Keys the scores."""


class RandomStepRewardModel(BatchedStepRewardModel):
    """The control of every claim about step scores: a uniform number for each prefix, the same whenever it is asked."""

    def __init__(self, config: RandomStepRewardModelConfig | None = None, **overrides: Any) -> None:
        super().__init__()
        self.config = config or RandomStepRewardModelConfig(**overrides)

    def score_batch(self, requests: Sequence[StepScoreRequest]) -> list[StepScores]:
        """Hash every prefix into a score."""
        return [StepScores(self._score(r.question, r.steps[: i + 1]) for i in range(len(r.steps))) for r in requests]

    def _score(self, question: str, steps: tuple[str, ...]) -> float:
        return derive_seed(self.config.seed, "step score", question, *steps) / 2**63


class ScriptedStepRewardModel(BatchedStepRewardModel):
    """A step reward model for tests: a function scores, and every character counts as a token.

    Args:
        function: maps a question and its steps to one score for each step.
    """

    def __init__(self, function: Callable[[str, tuple[str, ...]], list[float]]) -> None:
        super().__init__()
        self._function = function

    def score_batch(self, requests: Sequence[StepScoreRequest]) -> list[StepScores]:
        """Call the function on every request."""
        self.scored_tokens += sum(map(self.count_tokens, dict.fromkeys(requests)))
        return [self._checked(request) for request in requests]

    def count_tokens(self, request: StepScoreRequest) -> int:
        """Return the number of characters."""
        return len(request.question) + sum(map(len, request.steps))

    def _checked(self, request: StepScoreRequest) -> StepScores:
        scores = self._function(request.question, request.steps)
        if len(scores) != len(request.steps) or not all(0 <= score <= 1 for score in scores):
            raise ReasonEnvsError(
                f"The function returned {scores!r} for {len(request.steps)} steps; it must return one number in [0, 1] "
                "for each."
            )
        return StepScores(scores)


def make_reward_model(spec: StepRewardModel | str | Mapping[str, Any], **overrides: Any) -> StepRewardModel:
    """Build a step reward model from a name or a mapping with ``name`` and options; an object passes through.

    Example:
        ``make_reward_model("transformers", model="embedded", device="cpu")``
    """
    if isinstance(spec, Mapping):
        options = {**spec, **overrides}
        return make_reward_model(options.pop("name"), **options)
    if not isinstance(spec, str):
        return spec
    return REWARD_MODELS[spec].load()(REWARD_MODELS.configure(spec, overrides))
