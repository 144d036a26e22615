"""Adapters to Gymnasium's ``Env`` and ``VectorEnv``."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate

from reason_envs.adapters.controller import single_agent
from reason_envs.adapters.loop import run
from reason_envs.adapters.synchronous import Options, SynchronousEnv, check_reset_options
from reason_envs.batching import gather
from reason_envs.core import Environment, StepResult, checked_reset, checked_step
from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.validation import check_choice
from reason_envs.vector import VectorEpisodes


class SharedArguments(dict):
    """Keyword arguments whose values are shared by deep copies, so that engines in a ``spec`` are not copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(self)


class _SharingSpec:
    """Stores the ``spec`` that ``gymnasium.make`` sets; copies of it share the arguments."""

    _spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """Specification from which Gymnasium made the environment; ``None`` if it was made otherwise."""
        return self._spec

    @spec.setter
    def spec(self, value: EnvSpec | None) -> None:
        self._spec = value if value is None else replace(value, kwargs=SharedArguments(value.kwargs))


class GymnasiumAdapter(_SharingSpec, SynchronousEnv, gym.Env):
    """An environment with Gymnasium's synchronous interface. Several agents are replaced by one `Controller`.

    The environment's ``render_messages`` and ``parse_action`` are available to language policies, and its
    ``action_masks`` to learners if the actions are discrete. The last observation of an episode is the environment's
    final observation, or a repetition of the one before.

    Args:
        environment: the asynchronous environment.
        human: whether to print the episode after each reset and step, as ``render_mode="human"`` does.
        strict: whether an action outside of the action space is an error; otherwise the first one gives a warning.
    """

    def __init__(self, environment: Environment, human: bool = False, *, strict: bool = False) -> None:
        super().__init__(single_agent(environment), human)
        (self.agent,) = self.environment.agents
        if not isinstance(strict, bool):
            raise OptionError("strict", strict, "must be True or False.")
        self.strict = strict
        self.invalid_actions = 0
        """Number of actions outside of the action space so far."""
        self.observation_space = self.environment.observation_space(self.agent)
        self.action_space = self.environment.action_space(self.agent)
        self.render_messages = self.environment.render_messages
        self.parse_action = self.environment.parse_action
        if isinstance(self.action_space, Discrete):
            self.action_masks = self.environment.action_masks
        self._observation: Any = None
        self.__doc__ = (
            f"{inspect.getdoc(type(environment))}\n\nActions: {self.action_space}\nObservations: "
            f"{self.observation_space}\n\nThe interface is Gymnasium's (see {type(self).__name__}).\n"
        )

    def reset(self, *, seed: int | None = None, options: Options = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; ``options={"task": ...}`` fixes the problem."""
        gym.Env.reset(self, seed=seed)
        check_reset_options(self.environment, options)
        result = self._wait(checked_reset(self.environment, seed=seed, options=options))
        self._observation = seen(result, self.agent, None)
        return self._observation, result.info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step. An invalid action raises an error only if the environment is ``strict``."""
        self.environment.check_started()
        if not self.action_space.contains(action):
            rule = f"The action {action!r} ({type(action).__name__}) is not in the action space {self.action_space}"
            if self.strict:
                raise ReasonEnvsError(
                    f"{rule}: choose one of its actions, or make the environment without strict=True."
                )
            self.invalid_actions += 1
            if self.invalid_actions == 1:
                gym.logger.warn(f"{rule}. It counts as an invalid action; strict=True makes it an error.")
        result = self._wait(checked_step(self.environment, {self.agent: action}))
        self._observation = seen(result, self.agent, self._observation)
        return self._observation, *outcome(result, self.agent), result.info


class GymnasiumVectorAdapter(_SharingSpec, VectorEnv):
    """Several environments whose calls of engines and reward models are answered in one batch per step.

    Args:
        environment: the first environment, before its first reset. The others are forks of it and share its tasks and
            engine.
        num_envs: number of environments.
        autoreset_mode: when a new episode starts after the end of one: ``NextStep`` (Gymnasium's default),
            ``SameStep``, or ``Disabled`` (only ``reset`` with ``options={"reset_mask": ...}`` starts one).
    """

    def __init__(
        self, environment: Environment, num_envs: int, autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP
    ) -> None:
        first = single_agent(environment)
        (self.agent,) = first.agents
        self.episodes = VectorEpisodes.of(first, num_envs)
        self.environments = self.episodes.environments
        """The environments, in order."""
        self.num_envs = num_envs
        if not isinstance(autoreset_mode, AutoresetMode):
            check_choice("autoreset_mode", autoreset_mode, [mode.value for mode in AutoresetMode])
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**environment.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = environment.render_mode
        self.single_observation_space = first.observation_space(self.agent)
        self.single_action_space = first.action_space(self.agent)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._observations: list[Any] = [None] * num_envs

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Options = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode in every environment, or in those that ``options["reset_mask"]`` selects.

        Args:
            seed: a number ``i`` gives environment ``j`` the seed ``i + j``; a sequence gives one seed per environment.
            options: options of every environment, and ``reset_mask``, booleans [num_envs].
        """
        seeds = self._spread(seed)
        check_reset_options(self.environments[0], options, "reset_mask")
        passed = dict(options or {})
        slots = self._masked(passed.pop("reset_mask", None))
        results = run(self.episodes.reset(slots, {s: seeds[s] for s in slots}, dict.fromkeys(slots, passed)))
        return self._collect(results), self._merge(results)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step every environment; those whose episode has ended follow ``autoreset_mode``."""
        moves = {s: {self.agent: a} for s, a in enumerate(iterate(self.action_space, actions))}
        if len(moves) != self.num_envs:
            raise ReasonEnvsError(
                f"{len(moves)} actions for {self.num_envs} environments: give one action per environment."
            )
        stepped, started = run(self._move(moves))
        infos = self._merge({**stepped, **started})
        for slot, result in stepped.items():
            if result.done and slot in started:
                infos = self._add_info(infos, {"final_obs": self._see(slot, result), "final_info": result.info}, slot)
        outcomes = [outcome(stepped[s], self.agent) if s in stepped else (0.0, False, False) for s in moves]
        rewards, terminated, truncated = map(np.array, zip(*outcomes, strict=True))
        return self._collect({**stepped, **started}), rewards, terminated, truncated, infos

    def render(self) -> tuple[Any, ...]:
        """Render every environment."""
        return tuple(environment.render() for environment in self.environments)

    def close_extras(self, **kwargs: Any) -> None:
        """Close every environment and the models that they built. Models that were passed in stay open."""
        self.episodes.close()

    async def _move(self, moves: dict[int, dict[str, Any]]) -> tuple[dict[int, StepResult], dict[int, StepResult]]:
        """Step and restart. Returns the results of the stepped and of the restarted environments."""
        restart: list[int] = []
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            restart = [s for s in moves if (last := self.episodes.result(s)) is not None and last.done]
        going = {s: action for s, action in moves.items() if s not in restart}
        started, stepped = await gather(self.episodes.reset(restart), self.episodes.step(going))
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            started = await self.episodes.reset([s for s, result in stepped.items() if result.done])
        return stepped, started

    def _see(self, slot: int, result: StepResult) -> Any:
        return seen(result, self.agent, self._observations[slot])

    def _collect(self, results: Mapping[int, StepResult]) -> Any:
        for slot, result in results.items():
            self._observations[slot] = self._see(slot, result)
        return stacked(self.single_observation_space, self._observations)

    def _merge(self, results: Mapping[int, StepResult]) -> dict[str, Any]:
        infos: dict[str, Any] = {}
        for slot, result in sorted(results.items()):
            infos = self._add_info(infos, result.info, slot)
        return infos

    def _spread(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None or isinstance(seed, int | np.integer):
            return [None if seed is None else int(seed) + slot for slot in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ReasonEnvsError(
                f"{len(seed)} seeds for {self.num_envs} environments: give one seed per environment, or one number."
            )
        return list(seed)

    def _masked(self, mask: np.ndarray | None) -> list[int]:
        if mask is None:
            return list(range(self.num_envs))
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise ReasonEnvsError(
                f"reset_mask={mask!r} must be an array of {self.num_envs} booleans with at least one True."
            )
        return [int(slot) for slot in np.flatnonzero(mask)]


def stacked(space: gym.Space, observations: Sequence[Any]) -> Any:
    """Return the observations of several environments as one batch."""
    empty: Any = create_empty_array(space, len(observations))
    return concatenate(space, observations, empty)


def seen(result: StepResult, agent: str, last: Any) -> Any:
    """Return an agent's observation after a step; at the end of its episode the final observation, or else ``last``."""
    return result.observations.get(agent, result.final_observations.get(agent, last))


def outcome(result: StepResult, agent: str) -> tuple[float, bool, bool]:
    """Return an agent's reward and whether its episode terminated or was truncated."""
    return (
        float(result.rewards.get(agent, 0.0)),
        bool(result.terminated.get(agent, False)),
        bool(result.truncated.get(agent, False)),
    )
