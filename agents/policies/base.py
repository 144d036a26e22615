"""The contract of policies: what rollouts, learners and the training loop may ask of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agents.trajectory import Choice, Decision
from reason_envs.batching import gather
from reason_envs.core import Action, AgentId, Environment, Message
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import Engine, GenerationRequest, Sampling

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Evaluation:
    """The probabilities of choices, as a policy computes them for training. All tensors are [B, T]."""

    log_probs: Tensor
    """Log-probability of each chosen token at the sampling temperature; 0 where masked."""
    entropy: Tensor
    """Entropy of the distribution that each token was drawn from, in nats; 0 where masked."""
    mask: Tensor
    """True where a token was chosen, false where a row is padded."""
    values: Tensor | None = None
    """Value of the state before each token. ``None`` until ``prepare_values`` was called."""


class Policy(ABC):
    """Chooses actions in environments. Only ``act`` must be implemented."""

    def observe(self, environment: Environment, observation: Any) -> Any:
        """Convert an environment's observation into the policy's input; by default chat messages."""
        return environment.render_messages(observation)

    @abstractmethod
    async def act(
        self,
        observations: Sequence[Any],
        seeds: Sequence[int],
        sampling: Sampling | None = None,
        *,
        agents: Sequence[AgentId],
    ) -> list[Choice]:
        """Make one choice per observation. Concurrent calls may be computed as one batch.

        Args:
            observations: results of ``observe``.
            seeds: one seed per observation; equal seeds and observations give equal choices.
            sampling: sampling parameters, such as those of an evaluation. ``None``: those of training.
            agents: the agent that each observation belongs to.
        """

    def fits(self, observation: Any) -> bool:
        """Return whether a result of ``observe`` leaves room for a choice; by default always."""
        return True

    def action(self, environment: Environment, choice: Choice) -> Action:
        """Convert a choice into the environment's action; by default the environment parses the text."""
        return environment.parse_action(choice.text)


class TrainablePolicy(Policy):
    """A policy that a learner can update.

    A subclass must set ``device``, ``sampling`` and ``max_tokens`` and implement ``act``, ``evaluate``,
    ``named_parameters`` and ``save_pretrained``. The other methods have defaults. Values (``algo=ppo``) and a
    reference (``algo.kl_coef``) are optional: their defaults raise an error.
    """

    device: torch.device
    """The device that ``evaluate`` returns its tensors on."""
    sampling: Sampling
    """Sampling parameters of training episodes."""
    max_tokens: int
    """Maximum number of tokens per choice."""
    is_sharded: bool = False
    """Whether this process holds only a part of the weights, so that all processes must evaluate and save together."""
    scales_loss: bool = False
    """Whether forward passes run in float16, so that the loss must be scaled."""
    version: int = 0
    """Number of training steps behind the current weights. The training loop sets it; choices record it."""
    roles: Mapping[AgentId, TrainablePolicy] = MappingProxyType({})
    """Policies that are trained separately, by role. Empty if one policy plays all agents."""

    @property
    def external_engine(self) -> bool:
        """Whether an engine with other arithmetic samples, so that its log-probabilities need a correction."""
        return False

    # --- evaluation

    @abstractmethod
    def evaluate(self, decisions: Sequence[Decision], *, entropy_gradient: bool = False) -> Evaluation:
        """Evaluate stored choices of at least one decision under the current weights.

        ``entropy_gradient`` says whether the entropy has a gradient.
        """

    def lengths(self, decisions: Sequence[Decision]) -> list[int]:
        """Return the cost of each decision in ``evaluate``; by default the tokens of prompt and response."""
        return [len(d.choice.prompt_ids) + len(d.choice.token_ids) for d in decisions]

    def activation_bytes(self) -> int:
        """Return the bytes per token that a forward pass keeps for its backward pass; 0, the default, if negligible."""
        return 0

    def recompute_activations(self) -> bool:
        """Let backward passes recompute activations from now on; return whether this saves memory. By default not."""
        return False

    def training_mode(self, enabled: bool) -> AbstractContextManager[None]:
        """Return a context in which dropout is on or off; by default it changes nothing."""
        return nullcontext()

    # --- values

    def prepare_values(self) -> None:
        """Let ``evaluate`` return state values from now on.

        Raises:
            ReasonEnvsError: this policy has no values.
        """
        raise ReasonEnvsError(f"{type(self).__name__} has no state values: use algo=grpo or algo=at_grpo.")

    def value_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the parameters that serve only the values; by default there are none."""
        return iter(())

    def at_observation(self, decision: Decision, observation: Any) -> Decision:
        """Return a copy of a decision at another observation; its first value is that of the new observation."""
        return replace(decision, observation=observation)

    # --- the reference

    def prepare_reference(self) -> None:
        """Freeze the current weights as the reference.

        Raises:
            ReasonEnvsError: this policy cannot keep a reference.
        """
        raise ReasonEnvsError(
            f"{type(self).__name__} keeps no reference policy: set algo.kl_coef=0 and algo.kl_reward_coef=0."
        )

    def reference(self) -> AbstractContextManager[None]:
        """Return a context in which ``evaluate`` uses the reference, without gradients and dropout."""
        raise ReasonEnvsError(f"{type(self).__name__} has no reference yet: call prepare_reference first.")

    # --- weights

    def distribute(self) -> None:
        """Divide the weights over the processes of the run, when values and reference are prepared; by default not."""

    @abstractmethod
    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Iterate over the trainable parameters with their names."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the trainable parameters."""
        return (parameter for _, parameter in self.named_parameters())

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the trainable weights by name, for checkpoints; sharded ones as they are."""
        return {name: parameter.detach() for name, parameter in self.named_parameters()}

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the result of ``state_tensors``.

        Raises:
            ReasonEnvsError: the names or shapes differ from those of this policy.
        """
        from agents.policies.sharding import sharded_like

        own = self.state_tensors()
        for name in sorted(own.keys() | tensors.keys()):
            given, needed = (str(list(w[name].shape)) if name in w else "missing" for w in (tensors, own))
            if given != needed:
                raise ReasonEnvsError(
                    f"The weights do not fit this policy: the shape of {name!r} is {given} in the weights and {needed} "
                    "in the policy. Use the policy options and the environment that the weights were trained with."
                )
        for name, tensor in tensors.items():
            own[name].detach().copy_(sharded_like(tensor, own[name]))

    @abstractmethod
    def save_pretrained(self, folder: Path) -> None:
        """Write the trained model into a folder, in the format that others load."""


async def sample(
    engine: Engine | None, conversations: Sequence[list[Message]], seeds: Sequence[int], sampling: Sampling
) -> list[Choice]:
    """Let an engine write one response per conversation. ``None`` as the engine is an error."""
    if engine is None:
        raise ReasonEnvsError("The policy has no engine to sample with: set the attribute `engine` first.")
    requests = [GenerationRequest(c, seed, sampling) for c, seed in zip(conversations, seeds, strict=True)]
    generations = await gather(*(engine.generate(request) for request in requests))
    return [
        Choice(
            token_ids=generation.token_ids,
            log_probs=generation.log_probs,
            sampling=sampling,
            finish_reason=generation.finish_reason,
            policy_version=generation.policy_version,
            prompt_ids=generation.prompt_ids,
            text=generation.text,
            counted_tokens=generation.usage_tokens,
        )
        for (generation,) in generations
    ]


def sampling_temperatures(decisions: Sequence[Decision]) -> list[float]:
    """Return the temperature that each decision was sampled at.

    Raises:
        ReasonEnvsError: a decision was not sampled, so that its importance ratio is not defined.
    """
    temperatures = [d.choice.sampling.temperature for d in decisions if d.choice.sampling is not None]
    if len(temperatures) != len(decisions) or min(temperatures) <= 0:
        raise ReasonEnvsError(
            "A decision was sampled greedily or without sampling parameters, so it cannot be trained on: importance "
            "ratios need a temperature above 0."
        )
    return temperatures
