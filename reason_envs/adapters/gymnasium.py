"""Adapters to Gymnasium's ``Env`` and ``VectorEnv``."""

import inspect
from collections.abc import Mapping, Sequence
from copy import copy
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
from reason_envs.batching import gather
from reason_envs.core import Environment, StepResult, checked_reset, checked_step
from reason_envs.errors import OptionError, ReasonEnvsError, printable, unknown_name
from reason_envs.validation import check_choice
from reason_envs.vector import VectorEpisodes

Options = dict[str, Any] | None


class SharedArguments(dict):
    """Keyword arguments whose values are shared by deep copies, so that engines in a ``spec`` are not copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return copy(self)

    def __copy__(self) -> Self:
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


class GymnasiumAdapter(_SharingSpec, gym.Env):
    """An environment with Gymnasium's synchronous interface. Several agents are replaced by one `Controller`.

    The environment's ``render_messages`` and ``parse_action`` are available to language policies, and its
    ``action_masks`` to learners if the actions are discrete. The last observation of an episode is the environment's
    final observation, or a repetition of the one before.

    Args:
        environment: the asynchronous environment.
        strict: whether an action outside of the action space is an error; otherwise the first one gives a warning.
        human: whether to print the episode after each reset and step, as ``render_mode="human"`` does.
    """

    metadata = Environment.metadata

    def __init__(self, environment: Environment, *, strict: bool = False, human: bool = False) -> None:
        self.environment = single_agent(environment)
        (self.agent,) = self.environment.agents
        self.strict = strict
        self.invalid_actions = 0
        """Number of actions outside of the action space so far."""
        self.metadata = {**environment.metadata, "render_modes": ["human", *environment.metadata["render_modes"]]}
        self.render_mode = "human" if human else environment.render_mode
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
        super().reset(seed=seed)
        _check_options(self.environment, options)
        result = self._run(checked_reset(self.environment, seed=seed, options=options))
        return self._observation, result.info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step. An invalid action raises an error only if the environment is ``strict``."""
        self.environment.check_started()
        if not self.action_space.contains(action):
            self._refuse(action)
        result = self._run(checked_step(self.environment, {self.agent: action}))
        return self._observation, *outcome(result, self.agent), result.info

    def render(self) -> Any:
        """Render according to ``render_mode``; ``human`` prints the episode and returns ``None``."""
        self.environment.check_started()
        drawn = self.environment.render()
        if self.render_mode != "human":
            return drawn
        return print(printable(str(drawn)))

    def _refuse(self, action: Any) -> None:
        rule = f"The action {action!r} ({type(action).__name__}) is not in the action space {self.action_space}"
        if self.strict:
            raise ReasonEnvsError(f"{rule}: choose one of its actions, or make the environment without strict=True.")
        self.invalid_actions += 1
        if self.invalid_actions == 1:
            gym.logger.warn(f"{rule}. It counts as an invalid action; strict=True makes it an error.")

    def close(self) -> None:
        """Close the environment and the models that it built. Models that were passed in stay open."""
        self.environment.close()

    def _run(self, move: Any) -> StepResult:
        (result,) = run(gather(move))
        self._observation = seen(result, self.agent, self._observation)
        if self.render_mode == "human":
            self.render()
        return result


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
        if isinstance(autoreset_mode, str):
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
        _check_options(self.environments[0], options, "reset_mask")
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
        ended = {s: r for s, r in stepped.items() if r.done and s in started}
        infos = self._merge({**stepped, **started})
        if ended:
            finals = {s: {"final_obs": self._see(s, r), "final_info": r.info} for s, r in ended.items()}
            for slot, info in finals.items():
                infos = self._add_info(infos, info, slot)
        outcomes = [outcome(stepped[s], self.agent) if s in stepped else (0.0, False, False) for s in moves]
        rewards, terminated, truncated = zip(*outcomes, strict=True)
        return (
            self._collect({**stepped, **started}),
            np.array(rewards, np.float64),
            np.array(terminated, np.bool_),
            np.array(truncated, np.bool_),
            infos,
        )

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


def _check_options(environment: Environment, options: Any, *more: str) -> None:
    """Refuse reset options that nothing reads."""
    if not isinstance(options, Mapping | None):
        raise OptionError("options", options, 'must be a dict, such as {"task": {"question": ..., "answer": ...}}.')
    for key in options or {}:
        if key not in (valid := (*environment.reset_options, *more)):
            raise unknown_name("option of reset", key, valid, "Name further keys in the environment's reset_options.")


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
        result.terminated.get(agent, False),
        result.truncated.get(agent, False),
    )
