"""A model that another program serves, as a policy that is evaluated and never trained."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from agents.policies.base import Evaluation, TrainablePolicy, sample
from agents.trajectory import Choice, Decision
from reason_envs.errors import OptionError
from reason_envs.llm.engine import Engine, Sampling
from reason_envs.validation import above, at_least


@dataclass
class ServedPolicyConfig:
    """Options of ``policy=served``, which evaluates the model of ``engine=`` without loading it."""

    model: str = ""
    """Name of the model on the server."""
    max_tokens: int = 512
    """Maximum number of tokens per response."""
    temperature: float = 1.0
    """Sampling temperature."""

    def __post_init__(self) -> None:
        at_least(self, max_tokens=1)
        above(self, temperature=0)


class ServedPolicy(TrainablePolicy):
    """Plays with an engine alone. Nothing of the model is loaded, so it cannot be trained."""

    def __init__(self, config: ServedPolicyConfig, *, seed: int = 0, environment: Any = None) -> None:
        self.sampling = Sampling(config.max_tokens, config.temperature)
        self.max_tokens = config.max_tokens
        self.engine: Engine | None = None
        """The engine that samples. It must be set before ``act``."""

    async def act(
        self, observations: Sequence[Any], seeds: Sequence[int], sampling: Sampling | None = None, **_: Any
    ) -> list[Choice]:
        """Sample one response per conversation."""
        return await sample(self.engine, observations, seeds, sampling or self.sampling)

    def evaluate(self, decisions: Sequence[Decision], *, entropy_gradient: bool = False) -> Evaluation:
        """Raise `OptionError`: a served model cannot be trained."""
        self._refuse()

    def named_parameters(self) -> Iterator[Any]:
        """Raise `OptionError`: a served model cannot be trained."""
        self._refuse()

    def save_pretrained(self, folder: Path) -> None:
        """Raise `OptionError`: a served model cannot be saved."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        rule = "cannot be trained: it is for python -m agents.evaluate. Use policy=language policy.model=MODEL."
        raise OptionError("policy", "served", rule)
