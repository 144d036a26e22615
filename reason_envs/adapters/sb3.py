"""Adapter to Stable-Baselines3's ``VecEnv``; the engine and reward model answer all environments in one batch."""

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from reason_envs.adapters.controller import single_agent
from reason_envs.adapters.gymnasium import outcome, seen, stacked
from reason_envs.adapters.loop import run
from reason_envs.adapters.synchronous import check_reset_options
from reason_envs.core import Environment, StepResult
from reason_envs.errors import ReasonEnvsError
from reason_envs.vector import VectorEpisodes

READABLE = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Dict)
"""Classes of spaces that the policies of Stable-Baselines3 support."""


class ReasonVecEnv(VecEnv):
    """Several environments for Stable-Baselines3. A new episode starts in the step that ends the one before.

    ``infos`` have ``terminal_observation`` and ``TimeLimit.truncated``; ``env_method("action_masks")`` serves
    ``MaskablePPO``::

        environment = reason_envs.make_environment("ReasonTree-v0", engine=..., reward_model=...)
        model = MaskablePPO("MultiInputPolicy", ReasonVecEnv(environment, 64), gamma=1.0)

    Args:
        environment: the first environment, before its first reset. The others are forks of it and share its tasks and
            engine.
        num_envs: number of environments.

    Raises:
        ReasonEnvsError: Stable-Baselines3 has no network for the observations or actions, such as text.
    """

    actions: np.ndarray

    def __init__(self, environment: Environment, num_envs: int) -> None:
        first = single_agent(environment)
        (self.agent,) = first.agents
        self.episodes = VectorEpisodes.of(first, num_envs)
        self.environments = self.episodes.environments
        """The environments, in order."""
        observation_space, action_space = first.observation_space(self.agent), first.action_space(self.agent)
        for space in (observation_space, action_space):
            if not isinstance(space, READABLE):
                raise ReasonEnvsError(
                    f"Stable-Baselines3 does not support {space} of {type(environment).__name__}: use an environment "
                    "whose observations and actions are arrays (reason_tree), or python -m agents.train."
                )
        self._observations: list[Any] = [None] * num_envs
        super().__init__(num_envs, observation_space, action_space)

    def reset(self) -> VecEnvObs:
        """Start an episode in every environment with the seeds of ``seed`` and the options of ``set_options``."""
        for given in self._options:
            check_reset_options(self.environments[0], given)
        seeds, options = dict(enumerate(self._seeds)), dict(enumerate(self._options))
        self._reset_seeds()
        self._reset_options()
        self._begin(run(self.episodes.reset(seeds=seeds, options=options)))
        return stacked(self.observation_space, self._observations)

    def replay(self, played: Sequence[tuple[int, Sequence[Any]]]) -> VecEnvObs:
        """Return to where another process was, instead of ``reset``: start episodes again and repeat their actions.

        Args:
            played: for each environment, the number of its first episode to repeat, counted from 0 since ``seed``, and
                all actions from there on. The environments take their last action together, as before.
        """
        first = {slot: seed for slot, seed in enumerate(self._seeds) if not played[slot][0]}
        for environment, seed, (number, _) in zip(self.environments, self._seeds, played, strict=True):
            for earlier in range(number):
                environment.episode_seed(None if earlier else seed)
        self._reset_seeds()
        run(self._repeat([actions for _, actions in played], first))
        return stacked(self.observation_space, self._observations)

    def step_async(self, actions: np.ndarray) -> None:
        """Store the actions for ``step_wait``."""
        self.actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step every environment and restart ended episodes. Returns observations, rewards, dones and infos."""
        stepped, started = run(self._move({slot: {self.agent: a} for slot, a in enumerate(self.actions)}, {}))
        outcomes = [outcome(stepped[slot], self.agent) for slot in range(self.num_envs)]
        infos = [self._info(slot, stepped[slot]) for slot in range(self.num_envs)]
        self._store(stepped, started)
        observations = stacked(self.observation_space, self._observations)
        rewards = np.array([reward for reward, _, _ in outcomes], np.float32)
        return observations, rewards, np.array([result.done for result in stepped.values()]), infos

    def close(self) -> None:
        """Close every environment and the models that they built. Models that were passed in stay open."""
        self.episodes.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Render every environment (``render_mode="rgb_array"``)."""
        return [environment.render() for environment in self.environments]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the environments."""
        return [getattr(environment, attr_name) for environment in self._chosen(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the environments."""
        for environment in self._chosen(indices):
            setattr(environment, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method of the environments, such as ``action_masks``."""
        return [getattr(environment, method_name)(*args, **kwargs) for environment in self._chosen(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Return ``False`` for every environment: wrappers of Gymnasium do not apply here."""
        return [False for _ in self._chosen(indices)]

    async def _repeat(self, actions: Sequence[Sequence[Any]], seeds: dict[int, int | None]) -> None:
        for left in range(max(map(len, actions)), -1, -1):
            moves = {slot: {self.agent: past[-left - 1]} for slot, past in enumerate(actions) if len(past) > left}
            starting = [slot for slot, past in enumerate(actions) if len(past) == left]
            self._store(*await self._move(moves, {slot: seeds.get(slot) for slot in starting}))

    async def _move(
        self, moves: dict[int, dict[str, Any]], starting: dict[int, int | None]
    ) -> tuple[dict[int, StepResult], dict[int, StepResult]]:
        """Step environments, and reset those whose episode ends and others, given with their seeds."""
        stepped = await self.episodes.step(moves)
        ended = [slot for slot, result in stepped.items() if result.done]
        return stepped, await self.episodes.reset(sorted([*ended, *starting]), seeds=starting)

    def _store(self, stepped: dict[int, StepResult], started: dict[int, StepResult]) -> None:
        for slot, result in stepped.items():
            self._observations[slot] = seen(result, self.agent, self._observations[slot])
        self._begin(started)

    def _begin(self, started: dict[int, StepResult]) -> None:
        for slot, result in started.items():
            self._observations[slot] = result.observations[self.agent]
            self.reset_infos[slot] = result.info

    def _info(self, slot: int, result: StepResult) -> dict[str, Any]:
        if not result.done:
            return {**result.info, "TimeLimit.truncated": False}
        _, terminated, truncated = outcome(result, self.agent)
        return {
            **result.info,
            "TimeLimit.truncated": truncated and not terminated,
            "terminal_observation": seen(result, self.agent, self._observations[slot]),
        }

    def _chosen(self, indices: VecEnvIndices) -> Iterable[Environment]:
        return [self.environments[slot] for slot in self._get_indices(indices)]
