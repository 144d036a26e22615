"""The environment contract: agents, step results, forks and addressed randomness."""

import copy
import hashlib
import numbers
import operator
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self, TypeVar

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Discrete

from reason_envs.errors import NoEpisodeError, ReasonEnvsError, shortened
from reason_envs.validation import mounted
from reason_envs.views import EpisodeView

Resource = TypeVar("Resource")
AgentId = str
Action = Any
Message = dict[str, str]
"""One chat message: ``{"role": "system" | "user" | "assistant", "content": text}``."""


def derive_seed(*address: int | str) -> int:
    """Hash an address such as ``(episode_seed, agent, turn, call)`` into a seed.

    Every random draw of the library has an address. The draw depends on the address alone, not on the draws before it,
    so batch composition and other agents cannot change it. NumPy integers are treated as Python integers.

    Returns:
        An integer in ``[0, 2**63)``, the same on every platform.
    """
    parts = tuple(str(part) if isinstance(part, str) else operator.index(part) for part in address)
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True)
class StepResult:
    """Result of ``reset`` and ``step``; the keys of ``observations`` are the agents that act next.

    Fields: ``observations``, ``rewards``, ``terminated`` (a terminal state was reached), ``truncated`` (a limit ended
    the episode) and ``final_observations`` (after the last step), each a dict by agent; ``info``, a dict by name.
    """

    observations: dict[AgentId, Any]
    """Observation of each agent that must act next; empty when the episode is over."""
    rewards: dict[AgentId, float] = field(default_factory=dict)
    """Reward of each named agent, for its latest decision. Every agent that acts in an episode must be named at least
    once; its reward is 0.0 if it earned nothing."""
    terminated: dict[AgentId, bool] = field(default_factory=dict)
    """Whether the episode of each named agent reached a terminal state; learners do not bootstrap there."""
    truncated: dict[AgentId, bool] = field(default_factory=dict)
    """Whether a limit ended the episode of each named agent; learners bootstrap there."""
    final_observations: dict[AgentId, Any] = field(default_factory=dict)
    """Observation of each named agent after the last step. Learners bootstrap from it; agents that are not named keep
    their last observation."""
    info: dict[str, Any] = field(default_factory=dict)
    """Further results by name; equal seeds, actions and weights give equal values."""

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return not self.observations


class Environment(ABC):
    """An asynchronous environment for one or several agents.

    A subclass keeps everything that changes during an episode in ``self.state``. Forks share all other attributes:
    options, tasks, engines, reward models. Learners and adapters rely on the attributes and methods declared here, and
    on no others. `reason_envs.envs.task_environment` has base classes that implement most of them.
    """

    agents: tuple[AgentId, ...]
    """Every agent of the environment, in a fixed order."""
    config: Any = None
    """Options, a dataclass; ``None`` if there are none. A run sets its fields ``tasks`` and ``split``."""
    tasks: Any = None
    """Problems of the episodes, a `reason_envs.tasks.TaskSet`; ``None`` if the environment has none."""
    state: Any = None
    """Episode state, a dataclass with a field ``seed``; ``None`` before the first ``reset``."""
    render_mode: str | None = None
    """Current render mode, one of ``metadata["render_modes"]``; ``None`` renders nothing."""
    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012  (Gymnasium's convention)
    """Render modes and frames per second, as in Gymnasium."""
    action_names: tuple[str, ...] = ()
    """Name of each discrete action, in order; empty if the actions have no names."""
    discount: float | None = None
    """Discount factor that the rewards are designed for; other values are refused. ``None`` allows any value."""
    decisions_per_episode: int | None = None
    """Number of decisions in every episode, over all agents; ``None`` if episodes differ in length."""
    graded_by: Any = None
    """Reward whose ``info`` says if a response is ``correct``; ``None``: the environment says it by itself."""
    max_decisions: int = 1000
    """Number of decisions after which a rollout truncates an episode that has not ended; ``max_decisions`` of a run."""
    reset_options: tuple[str, ...] = ("task",)
    """Keys of ``options`` that ``reset`` reads. The adapters of Gymnasium refuse others."""
    _base_seed: int | None = None
    _episode: int = 0
    owned: tuple[Any, ...] = ()
    """Engines, reward models and sandboxes that this environment built."""

    @abstractmethod
    def observation_space(self, agent: AgentId) -> Space:
        """Return the agent's observation space: the same object at every call."""

    @abstractmethod
    def action_space(self, agent: AgentId) -> Space:
        """Return the agent's action space: the same object at every call."""

    @abstractmethod
    async def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Start an episode. At least one agent must be asked to act.

        Args:
            seed: seed of the episode; ``None`` continues the sequence of seeds that the last number started.
            options: ``{"task": ...}`` fixes the problem. An environment that reads other keys names them in
                ``reset_options``.
        """

    @abstractmethod
    async def step(self, actions: Mapping[AgentId, Action]) -> StepResult:
        """Apply the actions of the agents that must act. An invalid action must not raise an error."""

    @abstractmethod
    def render_messages(self, observation: Any) -> list[Message]:
        """Convert an observation to chat messages for a language policy."""

    @abstractmethod
    def parse_action(self, text: str) -> Action:
        """Convert generated text to an action. Unreadable text becomes an invalid action, not an error."""

    def action_masks(self) -> np.ndarray:
        """Return which discrete actions are legal now, as booleans [actions]; by default all are.

        Raises:
            ReasonEnvsError: the actions are not discrete.
        """
        space = self.action_space(self.agents[0])
        if not isinstance(space, Discrete):
            raise ReasonEnvsError(f"{type(self).__name__} has no action masks: {space} is not Discrete.")
        return np.ones(int(space.n), np.bool_)

    def observe(self, agent: AgentId) -> Any:
        """Return the current observation of any agent. PettingZoo needs it; other callers read ``StepResult``."""
        raise ReasonEnvsError(f"{type(self).__name__} does not define observe(agent).")

    def fork(self, seed: int | None = None) -> Self:
        """Copy the episode between steps; the copy shares the task, engine and reward model.

        Args:
            seed: ``None`` repeats the original's random draws. A number gives the copy other draws.

        Raises:
            ReasonEnvsError: ``seed`` is given and no episode has started.
        """
        if seed is not None and self.state is None:
            raise NoEpisodeError(f"fork(seed={seed}) needs an episode: call reset first.")
        clone = copy.copy(self)
        clone.owned = ()
        clone.state = copy.deepcopy(self.state)
        if seed is not None:
            clone.state.seed = derive_seed(self.state.seed, "fork", seed)
        return clone

    def __copy__(self) -> Self:
        clone = object.__new__(type(self))
        vars(clone).update(vars(self))
        return clone

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Fork the episode: engines, reward models and tasks are shared."""
        return self.fork()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the options and the episode. Unpickling builds engines, reward models and tasks anew."""
        episode = {name: vars(self)[name] for name in _EPISODE if name in vars(self)}
        argument = self._built_from()
        return type(self), () if argument is None else (argument,), episode

    def _built_from(self) -> Any:
        """Return the argument of the constructor; ``None``: it takes none."""
        return self.config

    def render(self) -> Any:
        """Render the episode according to ``render_mode``; ``None`` renders nothing."""
        return None

    def view(self) -> EpisodeView | None:
        """Return the tree, pictures and model calls of the episode for reports; ``None`` if there are none."""
        return None

    def own(self, option: str, make: Callable[[Any], Resource], spec: Any) -> Resource:
        """Make an engine, reward model or sandbox, which ``close`` closes unless ``spec`` is the object itself.

        ``option`` is the option that holds ``spec``, for error messages.
        """
        with mounted(option):
            resource = make(spec)
        if resource is not spec:
            self.owned = (*self.owned, resource)
        return resource

    def close(self) -> None:
        """Close the engines, reward models and sandboxes that this environment built; objects passed in stay open.

        Forks share them and close nothing, so close the original environment last.
        """
        resources, self.owned = self.owned, ()
        for resource in resources:
            resource.close()

    async def check_servers(self) -> None:  # noqa: B027  (optional)
        """Raise `EngineError` if a server that the environment asks does not answer. By default it asks none."""

    def check_started(self) -> None:
        """Raise an error if no episode has started."""
        if self.state is None:
            raise NoEpisodeError

    def episode_seed(self, seed: int | None) -> int:
        """Return the seed of an episode: the ``seed`` of ``reset``, or the next one of the sequence for ``None``."""
        if seed is not None:
            self._base_seed, self._episode = operator.index(seed), 0
            return self._base_seed
        if self._base_seed is None:
            self._base_seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))
        self._episode += 1
        return derive_seed(self._base_seed, "episode", self._episode)


_EPISODE = ("state", "render_mode", "_base_seed", "_episode")


class ResultError(ReasonEnvsError):
    """``reset`` or ``step`` of an environment returned an invalid result.

    ``problem`` names the call, the value that it returned and the rule that the value breaks.
    """

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem} {fix} `python -m reason_envs.check ENVIRONMENT` checks the rest.")
        self.problem, self.fix = problem, fix


async def checked_reset(
    environment: Environment, *, seed: int | None = None, options: dict[str, Any] | None = None
) -> StepResult:
    """Call ``reset`` and validate that it returned a `StepResult` in which at least one agent acts.

    Raises:
        ResultError: it did not.
    """
    result = await _validated(environment, "reset", environment.reset(seed=seed, options=options))
    if result.done:
        problem = f"{type(environment).__name__}.reset returned no observations, so no agent can act."
        raise ResultError(problem, "Return the observation of each agent that acts first: StepResult({agent: value}).")
    return result


async def checked_step(environment: Environment, actions: Mapping[AgentId, Action]) -> StepResult:
    """Call ``step`` and validate that it returned a `StepResult`.

    Raises:
        ResultError: it did not.
    """
    return await _validated(environment, "step", environment.step(actions))


async def _validated(environment: Environment, call: str, returned: Any) -> StepResult:
    name = f"{type(environment).__name__}.{call}"
    if not isinstance(returned, Awaitable):
        problem = f"{name} is not a coroutine function: it returned {_described(returned)}."
        raise ResultError(problem, f"Write `async def {call}` and `return StepResult(...)`.")
    result = await returned
    if not isinstance(result, StepResult):
        problem = f"{name} must return a StepResult; it returned {_described(result)}."
        raise ResultError(problem, "End every path with `return StepResult(...)`.")
    for part in (entry.name for entry in fields(StepResult)):
        if not isinstance(value := getattr(result, part), Mapping):
            fix = f"Write {part}={{{'name' if part == 'info' else 'agent'}: value}}."
            raise ResultError(f"{name} must return a dict as {part}; it returned {_described(value)}.", fix)
    for agent, reward in result.rewards.items():
        if not isinstance(reward, numbers.Real | np.bool_):
            problem = f"{name} must return numbers as rewards; it returned {_described(reward)} for {agent!r}."
            raise ResultError(problem, "Return a float.")
    return result


def _described(value: Any) -> str:
    return f"{shortened(value)} ({type(value).__name__})"
