"""Rollouts of independent episodes. They write the ``group_id`` by which estimators later group decisions."""

import logging
from collections.abc import Callable, Container, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

import numpy as np

from agents import distributed
from agents.policies.base import Policy
from agents.trajectory import Decision, Trajectory
from reason_envs.batching import gather
from reason_envs.core import Action, AgentId, Environment, StepResult, checked_reset, checked_step, derive_seed
from reason_envs.errors import EngineError, ReasonEnvsError, RewardError
from reason_envs.llm.engine import Sampling
from reason_envs.tasks.base import Task

Plan = TypeVar("Plan")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpisodeSpec:
    """One episode to play."""

    id: str
    """Name of the episode, unique within a batch."""
    task: Task
    """The task that the environment is reset to."""
    seed: int
    """Seed of the environment and of the policy's choices."""
    group: str
    """Name of the group: decisions of the same agent in episodes of one group are compared with each other."""


def grouped(tasks: Sequence[Task], samples: int, seed: int) -> list[EpisodeSpec]:
    """Plan ``samples`` episodes per task. They form one group per position, so a repeated task forms two groups."""
    return [
        EpisodeSpec(f"{i}.{k}", task, derive_seed(seed, i, k), group=f"{i}:{task.id}")
        for i, task in enumerate(tasks)
        for k in range(samples)
    ]


async def play(
    environment: Environment,
    policy: Policy,
    episodes: Sequence[EpisodeSpec],
    finished: Callable[[], Any] = lambda: None,
    *,
    sampling: Sampling | None = None,
) -> list[Trajectory]:
    """Play episodes concurrently, so that their calls of engines and reward models are batched.

    If several processes train together, each process plays some groups of episodes and returns all trajectories.

    Args:
        environment: the environment; each episode plays on a fork, which shares engine and reward model.
        policy: the policy that acts.
        episodes: the episodes to play.
        finished: function to call at the end of each episode of this process.
        sampling: sampling parameters. ``None``: those of the policy.

    Returns:
        One trajectory per episode, in order.
    """
    group_size = sum(episode.group == episodes[0].group for episode in episodes)

    async def play_one(episode: EpisodeSpec) -> Trajectory:
        trajectory = await _play(environment.fork(), policy, episode, sampling)
        finished()
        return trajectory

    return await play_shared(episodes, group_size, play_one)


def without_failures(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """Leave out the episodes that an engine or a reward failed.

    The others get the shares of these as the metrics ``engine_failures`` and ``reward_failures``.
    """
    kept = [trajectory for trajectory in trajectories if not trajectory.failure]
    for name in ("engine_failures", "reward_failures"):
        failed = sum(trajectory.metrics.get(name, 0.0) for trajectory in trajectories if trajectory.failure)
        for trajectory in kept if failed else ():
            trajectory.metrics[name] = failed / len(trajectories)
    return kept


async def play_shared(
    plans: Sequence[Plan], block: int, play_one: Callable[[Plan], Coroutine[Any, Any, Trajectory]]
) -> list[Trajectory]:
    """Play this process's share of the plans concurrently; return the trajectories of all processes in order.

    The same process plays ``block`` neighbours.

    Raises:
        EngineError, RewardError: more than half of the trajectories failed.
    """
    own = await gather(*(play_one(plan) for plan in distributed.shard(plans, block)))
    played = distributed.unshard(own, len(plans), block)
    failures = [trajectory.failure for trajectory in played if trajectory.failure]
    if 2 * len(failures) > len(played):
        kind = RewardError if any("reward_failures" in trajectory.metrics for trajectory in played) else EngineError
        raise kind(f"{len(failures)} of {len(played)} episodes failed, the first one with: {failures[0]}")
    if failures:
        counts = (len(failures), len(played), failures[0])
        _log.warning("%d of %d episodes failed and are not trained on. The first error: %s", *counts)
    return played


async def _play(
    environment: Environment, policy: Policy, episode: EpisodeSpec, sampling: Sampling | None
) -> Trajectory:
    result = await checked_reset(environment, seed=episode.seed, options={"task": episode.task})
    decisions: list[Decision] = []
    latest: dict[AgentId, Decision] = {}
    final: dict[AgentId, Any] = {}
    overlong = 0
    while not result.done:
        inputs = policy_inputs(environment, policy, result, latest)
        skipped_agents = result.observations.keys() - inputs.keys()
        overlong += len(skipped_agents)
        sampled = await gather(
            *(decide(policy, [episode], agent, observation, latest, sampling) for agent, observation in inputs.items())
        )
        acting = [decision for (decision,) in sampled]
        decisions += acting
        latest.update({decision.agent: decision for decision in acting})
        try:
            result = await checked_step(environment, actions(environment, policy, acting, skipped_agents))
        except (EngineError, RewardError) as error:
            return failed(episode, decisions, result, error, environment)
        result = limited(environment, result, latest)
        _pay(result.rewards, latest, skipped_agents, episode)
        final |= bootstrap_observations(environment, policy, result, latest)
    return finish(environment, episode, decisions, result, final, overlong)


def failed(
    episode: EpisodeSpec, decisions: Sequence[Decision], before: StepResult, error: Exception, *forks: Environment
) -> Trajectory:
    """Close the environments of an episode in which an engine or a reward failed.

    Returns:
        A trajectory without decisions. It counts the failure and the tokens that were generated.
    """
    for fork in forks:
        fork.close()
    tokens = sum(decision.choice.generated_tokens for decision in decisions) + before.info.get("generated_tokens", 0)
    kind = "reward_failures" if isinstance(error, RewardError) else "engine_failures"
    metrics = {"correct": 0.0, kind: 1.0, "generated_tokens": float(tokens)}
    return Trajectory(episode.task.id, episode.id, [], False, True, metrics, failure=str(error))


def limited(environment: Environment, result: StepResult, latest: Mapping[AgentId, Decision]) -> StepResult:
    """Truncate an episode that has not ended after ``environment.max_decisions`` decisions."""
    if result.done or sum(decision.turn + 1 for decision in latest.values()) < environment.max_decisions:
        return result
    _warn_of_limit(type(environment).__name__, environment.max_decisions)
    truncated = {agent: True for agent in environment.agents if not result.terminated.get(agent)}
    return replace(result, observations={}, truncated=truncated, final_observations=result.observations)


@cache
def _warn_of_limit(environment: str, limit: int) -> None:
    _log.warning(
        "Episodes of %s do not end within max_decisions=%d decisions and are truncated there. End them in the "
        "environment (return truncated and no observations after a maximum number of turns), or raise max_decisions.",
        environment,
        limit,
    )


def policy_inputs(
    environment: Environment, policy: Policy, result: StepResult, latest: Mapping[AgentId, Decision]
) -> dict[AgentId, Any]:
    """Return the policy's input for each agent that must act, without agents whose prompt exceeds the limit.

    The first prompts of an episode are not checked here, because a run checks those of all tasks before it starts.
    """
    inputs = {agent: policy.observe(environment, observation) for agent, observation in result.observations.items()}
    return {agent: observation for agent, observation in inputs.items() if not latest or policy.fits(observation)}


def actions(
    environment: Environment, policy: Policy, acting: Iterable[Decision], skipped_agents: Iterable[AgentId]
) -> dict[AgentId, Action]:
    """Return the action of each decision; a skipped agent sends an empty response."""
    chosen = {decision.agent: policy.action(environment, decision.choice) for decision in acting}
    return {**{agent: environment.parse_action("") for agent in skipped_agents}, **chosen}


def finish(
    environment: Environment,
    episode: EpisodeSpec,
    decisions: list[Decision],
    result: StepResult,
    final_observations: dict[AgentId, Any],
    overlong: int,
) -> Trajectory:
    """Close the environment of an episode that has ended, and return its trajectory."""
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


async def decide(
    policy: Policy,
    rows: Sequence[EpisodeSpec],
    agent: AgentId,
    observation: Any,
    latest: Mapping[AgentId, Decision],
    sampling: Sampling | None,
) -> list[Decision]:
    """Sample a decision of an agent with the seed of each row. All of them belong to the episode of the first row."""
    turn = latest[agent].turn + 1 if agent in latest else 0
    seeds = [derive_seed(row.seed, "policy", agent, turn) for row in rows]
    choices = await policy.act([observation] * len(rows), seeds, sampling, agents=[agent] * len(rows))
    group = f"{rows[0].group}:{agent}"
    return [Decision(rows[0].id, agent, turn, choice, 0.0, group, observation=observation) for choice in choices]


def bootstrap_observations(
    environment: Environment, policy: Policy, result: StepResult, latest: Mapping[AgentId, Decision]
) -> dict[AgentId, Any]:
    """Return the policy's input at which the value of each truncated agent is bootstrapped.

    This is the agent's final observation if the step returned one that fits, and its latest input otherwise.
    """
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
    rewards: Mapping[AgentId, float],
    latest: Mapping[AgentId, Decision],
    skipped_agents: Container[AgentId],
    episode: EpisodeSpec,
) -> None:
    """Add each reward to its agent's latest decision; drop it if the agent was skipped before its first decision."""
    for agent, reward in rewards.items():
        if agent not in latest and agent in skipped_agents:
            continue
        if agent not in latest:
            raise ReasonEnvsError(
                f"Task {episode.task.id!r}: agent {agent!r} was paid {reward} before its first decision. Pay it later, "
                "or pay an agent that has acted."
            )
        latest[agent].reward += reward


def numbers(info: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers and booleans of an episode's last info."""
    return {name: float(value) for name, value in info.items() if isinstance(value, int | float | np.number | np.bool_)}
