"""Adapter to verifiers: tasks that are episodes of an environment, and an environment that plays them with a model.

verifiers looks both up in a module of yours that lists them in ``__all__``.
"""

from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from typing import Any

import verifiers.v1 as vf

from reason_envs.adapters.controller import single_agent
from reason_envs.adapters.loop import run, run_from_loop
from reason_envs.adapters.trl import first_prompts
from reason_envs.adapters.trl_dialogue import continued
from reason_envs.core import Environment, checked_reset, checked_step, derive_seed
from reason_envs.registration import make_environment


class EpisodesConfig(vf.TasksetConfig):
    """Options of the tasks, given as ``--env.taskset.NAME``."""

    environment: str = "single_turn_math"
    """Id or short name of the environment; ``module:ID`` imports a module that registers it."""
    options: dict[str, Any] = {}  # noqa: RUF012  (pydantic copies it)
    """Options of the environment. If it has several agents, one policy acts for all of them."""
    count: int = 256
    """Number of episodes, which are always the same ones; ``options={"split": "test"}`` chooses other problems."""


class EpisodeData(vf.TaskData):
    """The first messages of an episode, and the ``seed`` of ``reset``."""

    seed: int


class EpisodeTask(vf.Task[EpisodeData]):
    """One episode."""


class Episodes(vf.Taskset[EpisodeTask, EpisodesConfig]):
    """Episodes of an environment."""

    @cached_property
    def environment(self) -> Environment:
        """The environment; forks of it are played, which share its engine and reward model."""
        return single_agent(make_environment(self.config.environment, **self.config.options))

    def load(self) -> Iterator[EpisodeTask]:
        """Yield one task per episode."""
        seeds = [derive_seed(0, "prompt", i) for i in range(self.config.count)]
        for seed, prompt in zip(seeds, run(first_prompts(self.environment, seeds)), strict=True):
            yield EpisodeTask(EpisodeData(seed=seed, prompt=prompt), self.config.task)


class EpisodeEnvConfig(vf.EnvConfig):
    """Options of the environment."""

    player: vf.AgentConfig = vf.AgentConfig(harness={"id": "null"}, runtime=vf.SubprocessConfig())
    """The model. By default it has no tools, and the loop that calls it runs on this machine."""


class EpisodeEnv(vf.Env[EpisodeEnvConfig]):
    """Plays each task as one growing dialogue, in which the environment is the user.

    If verifiers ends a dialogue early, such as at ``max_turns``, empty responses finish its episode, so that a policy
    cannot gain by exceeding a limit. Recorded are the reward ``reward`` and, if it is known, the metric ``correct``.
    """

    async def run(self, task: EpisodeTask, agents: vf.Agents) -> None:
        """Play one episode."""
        with closing(self.taskset.environment.fork()) as player:
            (agent,) = player.agents
            result = await run_from_loop(checked_reset(player, seed=task.data.seed))
            said, total = player.render_messages(result.observations[agent]), 0.0
            async with agents.player.interaction(task) as interaction:
                segment = await interaction.turn()
                while not result.done:
                    text = "" if segment.terminated else segment.last_reply
                    result = await run_from_loop(checked_step(player, {agent: player.parse_action(text)}))
                    total += float(result.rewards.get(agent, 0.0))
                    if not (result.done or segment.terminated):
                        said = [*said, {"role": "assistant", "content": text}]
                        new = continued(player.render_messages(result.observations[agent]), said)
                        said, segment = [*said, *new], await interaction.turn(new)
        interaction.trace.record_reward("reward", total)
        if "correct" in result.info:
            interaction.trace.record_metric("correct", float(result.info["correct"]))

    async def stop(self) -> None:
        """Close the environment and its models."""
        self.taskset.environment.close()
