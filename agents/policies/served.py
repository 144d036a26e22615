"""A model that another program serves, as a policy that is evaluated and never trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from agents.policies.base import TrainablePolicy, sample
from agents.trajectory import Choice
from reason_envs.errors import OptionError
from reason_envs.llm.engine import Engine, Sampling
from reason_envs.validation import Checked, limited


@dataclass
class ServedPolicyConfig(Checked):
    """Options of ``policy=served``, which evaluates the model of ``engine=`` without loading it."""

    model: str = ""
    """Name of the model on the server."""
    max_tokens: int = limited(512, at_least=1)
    """Maximum number of tokens per response."""
    temperature: float = limited(1.0, above=0)
    """Sampling temperature."""


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

    @staticmethod
    def refuse(*_: Any, **__: Any) -> NoReturn:
        """Raise `OptionError`: a served model cannot be trained or saved."""
        rule = "cannot be trained: it is for python -m agents.evaluate. Use policy=language policy.model=MODEL."
        raise OptionError("policy", "served", rule)

    evaluate = named_parameters = save_pretrained = refuse
