"""A policy for each role: models or adapters of their own, each trained on its role's decisions alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from agents.policies.base import Evaluation, TrainablePolicy
from agents.policies.language import LanguagePolicy, LanguagePolicyConfig, load_base
from agents.trajectory import Choice, Decision
from reason_envs.batching import gather
from reason_envs.core import Action, AgentId, Environment, Message, derive_seed
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.llm.engine import Sampling

T = TypeVar("T")


class RolePolicy:
    """Holds a language policy for each role and lets it act for, and learn from, that role's decisions.

    With ``sharing=lora_per_role`` the roles' models share the memory of their frozen weights.

    Args:
        config: of every role's policy.
        agents: the roles.
        seed: of the run; new adapters begin differently.
        devices: of roles that lie elsewhere than ``config.device`` (``sharing=model_per_role``).
    """

    version = 0

    def __init__(
        self,
        config: LanguagePolicyConfig,
        agents: Sequence[AgentId],
        *,
        seed: int = 0,
        devices: Mapping[AgentId, str] = MappingProxyType({}),
    ) -> None:
        self.config = config
        base = load_base(config) if config.sharing == "lora_per_role" else None
        self.roles = {
            agent: LanguagePolicy(
                replace(config, device=devices.get(agent, config.device)),
                seed=derive_seed(seed, "role", agent),
                base=None if base is None else shared_copy(base),
            )
            for agent in agents
        }
        self.cast = {agent: agent for agent in agents}
        """Whose weights act for whom; all others' decisions are no business of training."""
        first = next(iter(self.roles.values()))
        self.device, self.sampling, self.max_tokens = first.device, first.sampling, first.max_tokens
        self.scales_loss = first.scales_loss

    @property
    def samples_elsewhere(self) -> bool:
        """Whether the engines are other programs."""
        return any(role.samples_elsewhere for role in self.roles.values())

    def swap(self, cast: Mapping[AgentId, AgentId] | None = None) -> None:
        """Let roles act with others' weights; by default each with the next one's (with two: exchanged).

        Raises:
            ReasonEnvsError: an unknown role, or there is only one.
        """
        names = list(self.roles)
        if len(names) == 1:
            raise ReasonEnvsError(f"swap_roles: there is one role, {names[0]}, and nobody to swap with.")
        chosen = dict(zip(names, [*names[1:], names[0]], strict=True)) if cast is None else dict(cast)
        for name in chain(chosen, chosen.values()):
            if name not in self.roles:
                raise unknown_name("role of swap_roles", str(name), names)
        self.cast = {**self.cast, **chosen}

    # --- acting

    def observe(self, environment: Environment, observation: Any) -> list[Message]:
        """Write the observation as chat messages."""
        return environment.render_messages(observation)

    async def act(
        self,
        observations: Sequence[list[Message]],
        seeds: Sequence[int],
        sampling: Sampling | None = None,
        *,
        agents: Sequence[AgentId],
    ) -> list[Choice]:
        """Sample a response to each conversation with the weights of whose turn it is."""
        rows = zip(observations, seeds, agents, strict=True)
        answers = await gather(*(self.roles[self.cast[a]].act([o], [s], sampling) for o, s, a in rows))
        return [choice for (choice,) in answers]

    def fits(self, observation: list[Message]) -> bool:
        """Whether a conversation leaves room for a response; all roles have the same limits."""
        return next(iter(self.roles.values())).fits(observation)

    def action(self, environment: Environment, choice: Choice) -> Action:
        """Read the environment's action from the response."""
        return environment.parse_action(choice.text)

    # --- learning

    def evaluate(self, decisions: Sequence[Decision], *, entropy_gradient: bool = False) -> Evaluation:
        """Evaluate each decision under its role's weights."""
        width = max(len(d.choice.token_ids) for d in decisions)
        rows: list[tuple[Tensor, ...]] = [()] * len(decisions)
        for agent, places in by_agent(decisions, self.roles).items():
            out = self.roles[agent].evaluate([decisions[i] for i in places], entropy_gradient=entropy_gradient)
            columns = (out.log_probs, out.entropy, out.mask, *([] if out.values is None else [out.values]))
            padded = (nn.functional.pad(column, (0, width - column.shape[1])) for column in columns)
            for i, row in zip(places, zip(*padded, strict=True), strict=True):
                rows[i] = tuple(part.to(self.device) for part in row)
        return Evaluation(*(torch.stack(parts) for parts in zip(*rows, strict=True)))

    def lengths(self, decisions: Sequence[Decision]) -> list[int]:
        """Return prompt plus response tokens of each decision."""
        return next(iter(self.roles.values())).lengths(decisions)

    def prepare_values(self) -> None:
        """Give every role a value head of its own."""
        for role in self.roles.values():
            role.prepare_values()

    def value_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the parameters of every role's value head."""
        return chain.from_iterable(role.value_parameters() for role in self.roles.values())

    def moved(self, decision: Decision, observation: list[Message]) -> Decision:
        """Return the decision as if its role had read another conversation."""
        return self.roles[decision.agent].moved(decision, observation)

    def prepare_reference(self) -> None:
        """Freeze every role's present weights as its reference."""
        for role in self.roles.values():
            role.prepare_reference()

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Evaluate with the reference weights of every role."""
        with ExitStack() as stack:
            for role in self.roles.values():
                stack.enter_context(role.reference())
            yield

    @contextmanager
    def training_mode(self, enabled: bool) -> Iterator[None]:
        """Switch dropout of every role on or off, and back afterwards."""
        with ExitStack() as stack:
            for role in self.roles.values():
                stack.enter_context(role.training_mode(enabled))
            yield

    def parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the trainable parameters of every role."""
        return chain.from_iterable(role.parameters() for role in self.roles.values())

    # --- files

    def state_tensors(self) -> dict[str, Tensor]:
        """Return every role's trainable weights as ``<role>/<name>``."""
        return {f"{agent}/{n}": t for agent, role in self.roles.items() for n, t in role.state_tensors().items()}

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what ``state_tensors`` returned.

        Raises:
            ReasonEnvsError: the checkpoint is that of other roles, or of one policy for all.
        """
        found: dict[AgentId, dict[str, Tensor]] = {agent: {} for agent in self.roles}
        for path, tensor in tensors.items():
            agent, _, name = path.partition("/")
            if agent not in found or not name:
                raise ReasonEnvsError(
                    f"The checkpoint's weights {path!r} belong to none of the roles {', '.join(self.roles)}: use the "
                    "run's own env.roles and policy.sharing."
                )
            found[agent][name] = tensor
        for agent, role in self.roles.items():
            role.load_state_tensors(found[agent])

    def save_pretrained(self, folder: Path) -> None:
        """Write every role's model (or adapter) and tokenizer into a folder of its name."""
        for agent, role in self.roles.items():
            role.save_pretrained(folder / agent)


def policy_parts(policy: Any) -> dict[AgentId, TrainablePolicy]:
    """Return what is trained apart from each other: the policies of the roles, or one policy under ``""``."""
    return dict(policy.roles) if isinstance(policy, RolePolicy) else {"": policy}


def language_parts(policy: Any) -> dict[AgentId, LanguagePolicy]:
    """Return the parts of a policy that write text with an engine of their own; none of other policies."""
    return {name: part for name, part in policy_parts(policy).items() if isinstance(part, LanguagePolicy)}


def by_agent(decisions: Sequence[Decision], agents: Mapping[AgentId, T]) -> dict[AgentId, list[int]]:
    """Return the places of each agent's decisions; of agents that made none, none."""
    places: dict[AgentId, list[int]] = {}
    for i, decision in enumerate(decisions):
        if decision.agent not in agents:
            raise unknown_name("role of a decision", decision.agent, agents)
        places.setdefault(decision.agent, []).append(i)
    return places


def shared_copy(model: nn.Module) -> Any:
    """Copy a model's modules but not its weights: adapters can be added to the copy, the memory is the same."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())})
