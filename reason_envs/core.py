"""The environment contract: who acts, what a step returns, how episodes fork and how randomness is addressed."""

from __future__ import annotations

import copy
import hashlib
import numbers
import operator
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self, TypeVar

import numpy as np
from gymnasium import Space

from reason_envs.errors import ReasonEnvsError
from reason_envs.views import EpisodeView

Part = TypeVar("Part")
AgentId = str
Action = Any
Message = dict[str, str]
"""One chat message: ``{"role": "system" | "user" | "assistant", "content": text}``."""


def derive_seed(*address: int | str) -> int:
    """Hash an address such as ``(episode_seed, agent, turn, call)`` into a seed.

    Every random draw of the library is keyed by where it happens, never by how many draws came before it,
    so batch composition and the other agents' behaviour cannot shift it. NumPy's whole numbers count as Python's.

    Returns:
        An integer in ``[0, 2**63)``, the same on every platform.
    """
    parts = tuple(str(part) if isinstance(part, str) else operator.index(part) for part in address)
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True)
class StepResult:
    """What ``reset`` and ``step`` return; the keys of ``observations`` are the agents that act next."""

    observations: dict[AgentId, Any]
    """One observation for each agent that must act next; empty when the episode is over."""
    rewards: dict[AgentId, float] = field(default_factory=dict)
    """Reward for each named agent; it belongs to that agent's latest decision. Whoever acts in an episode is named in
    it at least once, with 0.0 where nothing was earned."""
    terminated: dict[AgentId, bool] = field(default_factory=dict)
    """Agents whose episode reached an end of its own."""
    truncated: dict[AgentId, bool] = field(default_factory=dict)
    """Agents whose episode was cut off by a limit (learners bootstrap there)."""
    final_observations: dict[AgentId, Any] = field(default_factory=dict)
    """What ended agents would see next, for those whose last observation is no longer true (bootstrapping)."""
    info: dict[str, Any] = field(default_factory=dict)
    """Deterministic extras: equal for equal seeds, actions and weights."""

    @property
    def done(self) -> bool:
        """Whether nobody acts any more."""
        return not self.observations


class Environment(ABC):
    """An asynchronous, multi-agent-by-construction environment.

    Subclasses keep everything that changes during an episode in ``self.state`` (a dataclass) and everything that is
    shared between forks (tasks, engine, reward model, options) in other attributes.
    """

    agents: tuple[AgentId, ...]
    render_mode: str | None = None
    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012  (Gymnasium's convention)
    state: Any = None
    discount: float | None = None
    """The one discount under which its rewards mean what they say; ``None`` leaves it to the learner."""
    decisions_per_episode: int | None = None
    """How many decisions every episode takes, all agents together; ``None`` where that differs."""
    _base_seed: int | None = None
    _episode: int = 0
    _own: tuple[Any, ...] = ()

    @abstractmethod
    def observation_space(self, agent: AgentId) -> Space:
        """Return the agent's observation space: the same object at every call."""

    @abstractmethod
    def action_space(self, agent: AgentId) -> Space:
        """Return the agent's action space: the same object at every call."""

    @abstractmethod
    async def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Start an episode, in which somebody acts.

        ``seed=None`` continues the environment's own sequence of episode seeds. ``options={"task": ...}`` fixes the
        problem; other options are ignored.
        """

    @abstractmethod
    async def step(self, actions: Mapping[AgentId, Action]) -> StepResult:
        """Apply the actions of the agents that were to act. Invalid actions never raise."""

    @abstractmethod
    def render_messages(self, observation: Any) -> list[Message]:
        """Write an observation as chat messages, so that a language policy can play."""

    @abstractmethod
    def parse_action(self, text: str) -> Action:
        """Read an action from generated text; garbage becomes an invalid action, never an exception."""

    def fork(self, seed: int | None = None) -> Self:
        """Copy the episode's state between steps; task, engine and reward model stay shared.

        Args:
            seed: ``None`` replays the original's random draws; a number re-keys them, which takes a running episode.
        """
        if seed is not None and self.state is None:
            raise ReasonEnvsError(f"fork(seed={seed}) re-keys an episode, and none has begun: call reset first.")
        clone = copy.copy(self)
        clone._own = ()
        clone.state = copy.deepcopy(self.state)
        if seed is not None:
            clone.state.seed = derive_seed(self.state.seed, "fork", seed)
        return clone

    def render(self) -> Any:
        """Render the episode according to ``render_mode`` (``None``: nothing)."""
        return None

    def view(self) -> EpisodeView | None:
        """Return what there is to see of the episode besides its dialogue, for reports; ``None``: nothing."""
        return None

    def keep(self, part: Part, given: Any) -> Part:
        """Note an engine, reward model or sandbox for ``close``, unless it was ``given`` as the object that it is.

        Returns:
            The part.
        """
        if part is not given:
            self._own = (*self._own, part)
        return part

    def close(self) -> None:
        """Free what this environment built from names and options; objects that were passed in stay open.

        Forks share those parts and close nothing: close the environment that they come from last.
        """
        parts, self._own = self._own, ()
        for part in parts:
            part.close()

    def episode_seed(self, seed: int | None) -> int:
        """Turn ``reset``'s seed into this episode's seed, drawing the next one of the sequence for ``None``."""
        if seed is not None:
            self._base_seed, self._episode = operator.index(seed), 0
            return self._base_seed
        if self._base_seed is None:
            self._base_seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))
        self._episode += 1
        return derive_seed(self._base_seed, "episode", self._episode)


class ResultError(ReasonEnvsError):
    """What an environment's ``reset`` or ``step`` returned is nothing to play on with.

    Args:
        seen: what came back from whom, and what is wrong with it.
        fix: what to do about it.
    """

    def __init__(self, seen: str, fix: str) -> None:
        super().__init__(f"{seen} {fix} `python -m reason_envs.check ENVIRONMENT` checks the rest.")
        self.seen, self.fix = seen, fix


async def begin(
    environment: Environment, *, seed: int | None = None, options: dict[str, Any] | None = None
) -> StepResult:
    """Await ``reset`` of an environment that anybody may have written, and refuse what is no sound `StepResult`."""
    result = await _sound(environment, "reset", environment.reset(seed=seed, options=options))
    if result.done:
        seen = f"{type(environment).__name__}.reset returned no observations: nobody would act in this episode."
        raise ResultError(seen, "Return an observation for whoever acts first: StepResult({agent: observation}).")
    return result


async def advance(environment: Environment, actions: Mapping[AgentId, Action]) -> StepResult:
    """Await ``step`` of an environment that anybody may have written, and refuse what is no sound `StepResult`."""
    return await _sound(environment, "step", environment.step(actions))


async def _sound(environment: Environment, call: str, coming: Any) -> StepResult:
    name = f"{type(environment).__name__}.{call}"
    if not isinstance(coming, Awaitable):
        seen = f"{name} is no coroutine: it returned {_shown(coming)} without being awaited."
        raise ResultError(seen, f"Write `async def {call}`, and in it `return StepResult(...)`.")
    result = await coming
    if not isinstance(result, StepResult):
        seen = f"{name} returned {_shown(result)}, which is no StepResult."
        raise ResultError(seen, "End every way through it with `return StepResult(...)`.")
    for part in _PARTS:
        if not isinstance(value := getattr(result, part), Mapping):
            fix = f"Write {part}={{{'name' if part == 'info' else 'agent'}: value}}."
            raise ResultError(f"{name} returned {part}={_shown(value)}, which is no dict.", fix)
    for agent, reward in result.rewards.items():
        if not isinstance(reward, _NUMBER):
            raise ResultError(f"{name} pays {agent!r} {_shown(reward)}, which is no number.", "Pay a float.")
    return result


_PARTS = tuple(part.name for part in fields(StepResult))
_NUMBER = numbers.Real | np.bool_


def _shown(value: Any) -> str:
    """Write a value in a line, with its type."""
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= 80 else f'{text[:77]}...'} ({type(value).__name__})"
