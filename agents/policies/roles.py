"""One policy per role: separate models or adapters, each trained only on the decisions of its role."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType

from torch import Tensor, nn

from agents.policies.base import Evaluation, TrainablePolicy
from agents.policies.language import LanguagePolicy, LanguagePolicyConfig, ShardingConfig, load_base
from agents.trajectory import Choice, Decision
from reason_envs.batching import gather
from reason_envs.core import AgentId, Message, derive_seed
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.llm.engine import Sampling


class RolePolicy(TrainablePolicy):
    """Combines one language policy per role. Each acts for its role and learns from the decisions of its role.

    With ``sharing=lora_per_role`` the models of all roles share the memory of their frozen weights. Each role derives a
    seed, so that new adapters differ. ``devices`` has the roles that are not on ``config.device``.
    """

    def __init__(
        self,
        config: LanguagePolicyConfig,
        agents: Sequence[AgentId],
        *,
        seed: int = 0,
        devices: Mapping[AgentId, str] = MappingProxyType({}),
        sharding: ShardingConfig | None = None,
    ) -> None:
        self.config = config
        base = load_base(config, sharding) if config.sharing == "lora_per_role" else None
        # Copies of the model share these tensors, so that each can get its own adapter.
        frozen = {} if base is None else {id(tensor): tensor for tensor in chain(base.parameters(), base.buffers())}
        self.roles: dict[AgentId, LanguagePolicy] = {
            agent: LanguagePolicy(
                replace(config, device=devices.get(agent, config.device)),
                seed=derive_seed(seed, "role", agent),
                base=copy.deepcopy(base, dict(frozen)),
                sharding=sharding,
            )
            for agent in agents
        }
        self.role_map = {agent: agent for agent in agents}
        """The role whose weights act for each role. Only evaluations change it (``swap_roles``)."""
        first = next(iter(self.roles.values()))
        self.device, self.sampling, self.max_tokens = first.device, first.sampling, first.max_tokens

    def swap_roles(self, role_map: Mapping[AgentId, AgentId] | None = None) -> None:
        """Let roles act with the weights of other roles; ``None``: each role acts with those of the next one.

        Raises:
            ReasonEnvsError: a role is unknown, or there is only one role.
        """
        names = list(self.roles)
        if len(names) == 1:
            raise ReasonEnvsError(f"swap_roles needs at least two roles; the only role is {names[0]}.")
        chosen = dict(zip(names, [*names[1:], names[0]], strict=True)) if role_map is None else dict(role_map)
        for name in chain(chosen, chosen.values()):
            if name not in self.roles:
                raise unknown_name("role of swap_roles", str(name), names)
        self.role_map = {**self.role_map, **chosen}

    # --- acting

    async def act(
        self,
        observations: Sequence[list[Message]],
        seeds: Sequence[int],
        sampling: Sampling | None = None,
        *,
        agents: Sequence[AgentId],
    ) -> list[Choice]:
        """Sample one response per conversation with the weights of the agent whose turn it is."""
        rows = zip(observations, seeds, agents, strict=True)
        answers = await gather(*(self.roles[self.role_map[a]].act([o], [s], sampling) for o, s, a in rows))
        return [choice for (choice,) in answers]

    def fits(self, observation: list[Message]) -> bool:
        """Return whether a conversation leaves room for a response; all roles have the same limit."""
        return next(iter(self.roles.values())).fits(observation)

    # --- learning

    def evaluate(self, decisions: Sequence[Decision], *, entropy_gradient: bool = False) -> Evaluation:
        """Raise `NotImplementedError`: each role is evaluated separately."""
        raise NotImplementedError("Evaluate the policy of each role: policy.roles[name].evaluate(decisions).")

    def at_observation(self, decision: Decision, observation: list[Message]) -> Decision:
        """Return a copy of a decision after another conversation, cut to its first token."""
        return self.roles[decision.agent].at_observation(decision, observation)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Evaluate with the reference weights of every role."""
        with ExitStack() as stack:
            for role in self.roles.values():
                stack.enter_context(role.reference())
            yield

    # --- files

    def distribute(self) -> None:
        """Divide the weights of each role over the processes."""
        for role in self.roles.values():
            role.distribute()
            self.is_sharded = role.is_sharded

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Iterate over the trainable parameters of every role, named ``<role>/<name>``."""
        return ((f"{agent}/{n}", p) for agent, role in self.roles.items() for n, p in role.named_parameters())

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the result of ``state_tensors``.

        Raises:
            ReasonEnvsError: the weights belong to other roles, or to one policy for all roles.
        """
        found: dict[AgentId, dict[str, Tensor]] = {agent: {} for agent in self.roles}
        for path, tensor in tensors.items():
            agent, _, name = path.partition("/")
            if agent not in found or not name:
                raise ReasonEnvsError(
                    f"The weights {path!r} belong to none of the roles {', '.join(self.roles)}. Use the env.roles and "
                    "the policy.sharing that the weights were trained with."
                )
            found[agent][name] = tensor
        for agent, role in self.roles.items():
            role.load_state_tensors(found[agent])

    def save_pretrained(self, folder: Path) -> None:
        """Write the model (or adapter) and tokenizer of every role into a folder with the role's name."""
        for agent, role in self.roles.items():
            role.save_pretrained(folder / agent)


def language_parts(policy: TrainablePolicy) -> dict[AgentId, LanguagePolicy]:
    """Return the language policies that have their own engine, by role; the role of a single policy is empty."""
    return {name: part for name, part in (policy.roles or {"": policy}).items() if isinstance(part, LanguagePolicy)}


def by_agent(decisions: Sequence[Decision]) -> dict[AgentId, list[int]]:
    """Return the indices of each agent's decisions, for agents that made any."""
    places: dict[AgentId, list[int]] = {}
    for i, decision in enumerate(decisions):
        places.setdefault(decision.agent, []).append(i)
    return places
