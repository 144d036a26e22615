"""What a learner needs from a policy, whatever it is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from agents.trajectory import Choice, Decision
from reason_envs.core import Action, AgentId, Environment
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import Sampling


@dataclass(frozen=True)
class Evaluation:
    """What a policy says about choices it made; all tensors [B, T]."""

    log_probs: Tensor
    """Of each chosen token, at the sampling temperature; 0 where masked."""
    entropy: Tensor
    """Of each draw's distribution, in nats; 0 where masked."""
    mask: Tensor
    """True where a token was chosen."""
    values: Tensor | None = None
    """State values, each that of the state before its token; ``None`` before ``prepare_values``."""


class Policy(Protocol):
    """Chooses actions."""

    def observe(self, environment: Environment, observation: Any) -> Any:
        """Turn an environment's observation into what this policy reads."""
        ...

    async def act(
        self, observations: Sequence[Any], seeds: Sequence[int], *, agents: Sequence[AgentId]
    ) -> list[Choice]:
        """Choose for each observation, which is that of the agent at the same place; concurrent calls are batched."""
        ...

    def fits(self, observation: Any) -> bool:
        """Whether what ``observe`` returned leaves room for a choice."""
        ...

    def action(self, environment: Environment, choice: Choice) -> Action:
        """Turn a choice into the environment's action."""
        ...


class TrainablePolicy(Policy, Protocol):
    """A policy that a learner can update."""

    device: torch.device
    scales_loss: bool
    """Whether its forwards run in float16 and need loss scaling."""
    max_tokens: int
    """Most draws of a choice."""
    version: int
    """Training steps behind the present weights; choices tell it, unless an engine that was sent weights does."""
    sampling: Sampling
    """How choices are drawn while training."""

    @property
    def samples_elsewhere(self) -> bool:
        """Whether another program samples for it, whose log-probabilities differ from ``evaluate``'s by rounding."""
        ...

    def evaluate(self, decisions: Sequence[Decision], *, entropy_gradient: bool = False) -> Evaluation:
        """Evaluate the stored choices under the current weights, with gradients where enabled."""
        ...

    def lengths(self, decisions: Sequence[Decision]) -> list[int]:
        """Return the tokens that each decision costs in ``evaluate`` (prompt included)."""
        ...

    def prepare_values(self) -> None:
        """Let ``evaluate`` give state values from now on.

        Raises:
            ReasonEnvsError: this policy can give none.
        """
        ...

    def value_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over those of ``parameters`` that serve the values alone."""
        ...

    def moved(self, decision: Decision, observation: Any) -> Decision:
        """Return the decision as if it had been taken at another observation, whose value is its first."""
        ...

    def prepare_reference(self) -> None:
        """Freeze the present weights as the reference."""
        ...

    def reference(self) -> AbstractContextManager[None]:
        """Within it, ``evaluate`` uses the frozen reference weights."""
        ...

    def training_mode(self, enabled: bool) -> AbstractContextManager[None]:
        """Within it, dropout is on or off."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the trainable parameters."""
        ...

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the trainable weights by name, for checkpoints."""
        ...

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what ``state_tensors`` returned."""
        ...

    def save_pretrained(self, folder: Path) -> None:
        """Write model or adapter and tokenizer in Hugging Face format."""
        ...


def sampling_temperatures(decisions: Sequence[Decision]) -> list[float]:
    """Return the temperature that each decision was sampled at.

    Raises:
        ReasonEnvsError: a decision was not sampled, so its importance ratio means nothing.
    """
    temperatures = [d.choice.sampling.temperature for d in decisions if d.choice.sampling is not None]
    if len(temperatures) != len(decisions) or min(temperatures) <= 0:
        raise ReasonEnvsError(
            "A decision to be trained was sampled greedily or without sampling parameters: importance ratios need a "
            "temperature above 0."
        )
    return temperatures
