"""Step (process) reward models: the interface, and a baseline without a language model."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reason_envs.batching import MicroBatcher
from reason_envs.core import derive_seed
from reason_envs.registry import Part, Registry

_AT = "reason_envs.reward_models"
REWARD_MODELS: Registry["StepRewardModel"] = Registry(
    "reward model", _AT, Part.built_in("reason_envs", _AT), f"{_AT}.base:StepRewardModel"
)
"""Step reward models by name; ``REWARD_MODELS.register(name, reward_model, config)`` adds one."""


@dataclass(frozen=True)
class StepScoreRequest:
    """A problem and the steps of its solution so far."""

    question: str
    """The problem, as in the generator's user message."""
    steps: tuple[str, ...]
    """The steps in order, without separators."""
    keep_prefix: bool = field(default=False, compare=False)
    """Whether to return ``StepScores.prefix_cache``, so that later requests can continue the steps faster."""
    prefix_cache: Any = field(default=None, compare=False, repr=False)
    """The ``prefix_cache`` of earlier scores by the same model. The question and the steps must start with those that
    the cache covers. Results differ by rounding at most. Models without such a cache ignore it."""


@dataclass(frozen=True)
class StepScores:
    """The scores of a request."""

    scores: list[float]
    """One score per step: the probability in [0, 1] that the step is right."""
    prefix_cache: Any = field(default=None, compare=False, repr=False)
    """Cached state of the question and all steps, for requests that continue them. ``None``: nothing is cached."""
    prompt_prefix_cache: Any = field(default=None, compare=False, repr=False)
    """Cached state of the question alone, for other solutions of the same problem. ``None``: nothing is cached."""


class StepRewardModel(ABC):
    """Scores the steps of solutions.

    A subclass must define `score`. Derive from `BatchedStepRewardModel` to score all waiting requests with one call.
    Built-in models take their ``config``, or its fields as keyword arguments.
    """

    model_name: str = ""
    """Name of the model in records. Empty: the name of the class is used."""
    scored_tokens: int = 0
    """Number of tokens read since the model was built."""
    reread_tokens: int = 0
    """Number of those that were read again, because kept prefixes were freed."""

    @abstractmethod
    async def score(self, request: StepScoreRequest) -> StepScores:
        """Score each step.

        A score may depend on the question and on the steps up to its own, but not on later steps.
        """

    def count_tokens(self, request: StepScoreRequest) -> int:
        """Return the number of tokens that the model reads to score a single request. 0 for models without tokens."""
        return 0

    def weights_digest(self) -> str | None:
        """Return a hash of the weights; ``None`` if the model has none."""
        return None

    def close(self) -> None:  # noqa: B027  (optional)
        """Free the model. Further calls have no effect."""


class BatchedStepRewardModel(StepRewardModel):
    """A step reward model that scores all waiting requests with one call of `score_batch`."""

    def __init__(self) -> None:
        self.batcher: MicroBatcher[StepScoreRequest, StepScores] = MicroBatcher(self.score_batch)

    async def score(self, request: StepScoreRequest) -> StepScores:
        """Score each step; requests that wait together are scored together."""
        return await self.batcher(request)

    @abstractmethod
    def score_batch(self, requests: Sequence[StepScoreRequest]) -> list[StepScores]:
        """Score several requests."""


@dataclass
class RandomStepRewardModelConfig:
    """Options of ``reward_model=random``."""

    seed: int = 0
    """Seed of the scores."""


class RandomStepRewardModel(BatchedStepRewardModel):
    """Returns a uniform random number per step: a baseline without information.

    A score depends only on the seed, the question and the steps so far.
    """

    def __init__(self, config: RandomStepRewardModelConfig | None = None, **overrides: Any) -> None:
        super().__init__()
        self.config = config or RandomStepRewardModelConfig(**overrides)

    def score_batch(self, requests: Sequence[StepScoreRequest]) -> list[StepScores]:
        """Return a hash of each prefix as its score."""
        keys = [[(r.question, *r.steps[: i + 1]) for i in range(len(r.steps))] for r in requests]
        return [StepScores([derive_seed(self.config.seed, "step score", *k) / 2**63 for k in ks]) for ks in keys]


def make_reward_model(spec: StepRewardModel | str | Mapping[str, Any], **options: Any) -> StepRewardModel:
    """Build a step reward model from a name or a mapping with ``name`` and options; an object is returned as it is.

    Example:
        ``make_reward_model("transformers", model="embedded", device="cpu")``
    """
    return REWARD_MODELS.make(spec, **options)
