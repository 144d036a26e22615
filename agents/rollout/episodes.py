"""Samplers: they play episodes with a policy and write the `group_id` that estimators later group by."""

from __future__ import annotations

from collections.abc import Callable, Container, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from agents import distributed
from agents.policies.base import Policy
from agents.trajectory import Decision, Trajectory
from reason_envs.batching import gather
from reason_envs.core import Action, AgentId, Environment, StepResult, checked_reset, checked_step, derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.base import Task

Plan = TypeVar("Plan")


@dataclass(frozen=True)
class Episode:
    """One episode to play."""

    id: str
    task: Task
    seed: int
    group: str
    """Decisions of one agent whose episodes share a group are compared with each other."""


def grouped(tasks: Sequence[Task], samples: int, seed: int) -> list[Episode]:
    """Plan ``samples`` episodes of each task, grouped by task (two places with the same task are two groups)."""
    return [
        Episode(f"{i}.{k}", task, derive_seed(seed, i, k), group=f"{i}:{task.id}")
        for i, task in enumerate(tasks)
        for k in range(samples)
    ]


async def play(
    environment: Environment,
    policy: Policy,
    episodes: Sequence[Episode],
    finished: Callable[[], Any] = lambda: None,
    **options: Any,
) -> list[Trajectory]:
    """Play episodes concurrently, so that everything awaited inside them is batched.

    Where several processes train together each plays the episodes of some groups; all of them get all trajectories.

    Args:
        environment: the prototype; each episode plays on a fork of it (engine and reward model shared).
        policy: who acts.
        episodes: what to play.
        finished: called at the end of each of this process's episodes.
        **options: passed on to ``policy.act`` (evaluation sampling, for example).
    """
    group_size = sum(episode.group == episodes[0].group for episode in episodes)

    async def play_one(episode: Episode) -> Trajectory:
        trajectory = await _play(environment.fork(), policy, episode, options)
        finished()
        return trajectory

    return await play_shared(episodes, group_size, play_one)


async def play_shared(
    plans: Sequence[Plan], block: int, play_one: Callable[[Plan], Coroutine[Any, Any, Trajectory]]
) -> list[Trajectory]:
    """Play plans concurrently, this process's share of them; return every process's trajectories.

    Args:
        plans: what to play, in the order of the result.
        block: neighbours that one process plays together.
        play_one: plays one of them.
    """
    played = await gather(*(play_one(plan) for plan in distributed.share(plans, block)))
    return distributed.merge(played, len(plans), block)


async def _play(environment: Environment, policy: Policy, episode: Episode, options: dict[str, Any]) -> Trajectory:
    result = await checked_reset(environment, seed=episode.seed, options={"task": episode.task})
    decisions: list[Decision] = []
    latest: dict[AgentId, Decision] = {}
    final: dict[AgentId, Any] = {}
    overlong = 0
    while not result.done:
        read = readable(environment, policy, result, latest)
        silent = result.observations.keys() - read.keys()
        overlong += len(silent)
        acting = await gather(
            *(_decide(policy, episode, agent, observation, latest, options) for agent, observation in read.items())
        )
        decisions += acting
        latest.update({decision.agent: decision for decision in acting})
        result = await checked_step(environment, actions(environment, policy, acting, silent))
        _pay(result.rewards, latest, silent, episode)
        final |= cut_off(environment, policy, result, latest)
    return finish(environment, episode, decisions, result, final, overlong)


def readable(
    environment: Environment, policy: Policy, result: StepResult, latest: Mapping[AgentId, Decision]
) -> dict[AgentId, Any]:
    """Return what each agent reads that is to act, without those whose prompt has outgrown the policy's limit.

    An episode's first prompts are not measured: a run checks them on all its problems before it starts.
    """
    read = {agent: policy.observe(environment, observation) for agent, observation in result.observations.items()}
    return {agent: observation for agent, observation in read.items() if not latest or policy.fits(observation)}


def actions(
    environment: Environment, policy: Policy, acting: Iterable[Decision], silent: Iterable[AgentId]
) -> dict[AgentId, Action]:
    """Read each decision's action; that of an agent without room to write is an empty response."""
    said = {decision.agent: policy.action(environment, decision.choice) for decision in acting}
    return {**{agent: environment.parse_action("") for agent in silent}, **said}


def finish(
    environment: Environment,
    episode: Episode,
    decisions: list[Decision],
    result: StepResult,
    final_observations: dict[AgentId, Any],
    overlong: int,
) -> Trajectory:
    """Close an episode that has ended and write it down."""
    rendered, view = environment.render(), environment.view()
    environment.close()
    return Trajectory(
        task_id=episode.task.id,
        episode_id=episode.id,
        decisions=decisions,
        terminated=any(result.terminated.values()),
        truncated=any(result.truncated.values()),
        metrics=numbers(result.info),
        final_observations=final_observations,
        rendered=rendered if isinstance(rendered, str) else "",
        facts={name: value for name, value in result.info.items() if isinstance(value, str) and value},
        view=view,
        overlong_prompts=overlong,
    )


async def _decide(
    policy: Policy,
    episode: Episode,
    agent: AgentId,
    observation: Any,
    latest: dict[AgentId, Decision],
    options: dict[str, Any],
) -> Decision:
    turn = next_turn(agent, latest)
    seed = derive_seed(episode.seed, "policy", agent, turn)
    (choice,) = await policy.act([observation], [seed], agents=[agent], **options)
    return Decision(
        episode_id=episode.id,
        agent=agent,
        turn=turn,
        choice=choice,
        reward=0.0,
        group_id=f"{episode.group}:{agent}",
        observation=observation,
    )


def next_turn(agent: AgentId, latest: dict[AgentId, Decision]) -> int:
    """Count the decisions that an agent has made."""
    return latest[agent].turn + 1 if agent in latest else 0


def cut_off(
    environment: Environment, policy: Policy, result: StepResult, latest: dict[AgentId, Decision]
) -> dict[AgentId, Any]:
    """What each truncated agent would read next: what it read last, unless that is no longer true and the new fits."""
    final = {
        agent: latest[agent].observation
        for agent, truncated in result.truncated.items()
        if truncated and not result.terminated.get(agent) and agent in latest
    }
    for agent in final.keys() & result.final_observations.keys():
        new = policy.observe(environment, result.final_observations[agent])
        final[agent] = new if policy.fits(new) else final[agent]
    return final


def _pay(
    rewards: dict[AgentId, float], latest: dict[AgentId, Decision], silent: Container[AgentId], episode: Episode
) -> None:
    """Add each reward to its agent's latest decision; an agent that never had room for one has none to reward."""
    for agent, reward in rewards.items():
        if agent not in latest and agent in silent:
            continue
        if agent not in latest:
            raise ReasonEnvsError(
                f"Task {episode.task.id!r}: agent {agent!r} was paid {reward} before its first decision. Pay it later, "
                "or pay an agent that has acted."
            )
        latest[agent].reward += reward


def numbers(info: Mapping[str, Any]) -> dict[str, float]:
    """Keep the numbers and yes/no answers of an episode's last info."""
    return {name: float(value) for name, value in info.items() if isinstance(value, int | float | np.number | np.bool_)}
