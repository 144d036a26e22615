"""The sampler of AT-GRPO: at every turn several candidates from the same state, one of which is played on.

A task is played once. At each turn every agent that is to act draws K candidates from the same observation, and each
candidate is stepped on a fork of its own; then one fork goes on, so that the next agent sees what that candidate did.
Where several agents act together, the k-th candidates of all of them are stepped together, as one joint action.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Container, Sequence
from typing import Any

import numpy as np

from agents.policies.base import Policy
from agents.rollout.episodes import Episode, actions, cut_off, finish, next_turn, play_shared, readable
from agents.trajectory import Decision, Trajectory
from reason_envs.batching import gather
from reason_envs.core import AgentId, Environment, StepResult, checked_reset, checked_step, derive_seed
from reason_envs.errors import ReasonEnvsError

SELECTIONS = ("best", "sample", "first")
"""Which candidate an episode continues from: the best paid, one drawn at random, or the first."""
COUNTERS = ("generated_tokens", "reward_model_tokens")
"""What environments count from an episode's beginning on: forks left behind have spent theirs too."""
Joint = dict[AgentId, Decision]
"""One candidate of every agent that acts."""


async def play_turn_tree(
    environment: Environment, policy: Policy, episodes: Sequence[Episode], select: str, **options: Any
) -> list[Trajectory]:
    """Play each task once, with as many candidates a turn as the task has episodes.

    A candidate draws with the seed that the policy would have at that turn of its episode: where tasks have one turn,
    the choices are those of independent episodes. Where several processes train together each plays some tasks.

    Args:
        environment: the prototype; each task plays on forks of it (engine and reward model shared).
        policy: who acts. All candidates of all tasks that are drawn at the same time make one batch.
        episodes: as ``grouped`` plans them. The first of each group is played.
        select: one of ``SELECTIONS``.
        **options: passed on to ``policy.act``.

    Returns:
        A trajectory for each task. Its decisions are all candidates, grouped by (task, turn, agent), each with what its
        own step paid; ``on_path`` tells the ones that the episode continued from.
    """
    trees = [list(rows) for _, rows in itertools.groupby(episodes, key=lambda episode: episode.group)]
    return await play_shared(trees, 1, lambda rows: _play(environment.fork(), policy, rows, select, options))


async def _play(
    environment: Environment, policy: Policy, rows: list[Episode], select: str, options: dict[str, Any]
) -> Trajectory:
    episode = rows[0]
    result = await checked_reset(environment, seed=episode.seed, options={"task": episode.task})
    decisions: list[Decision] = []
    latest: Joint = {}
    final: dict[AgentId, Any] = {}
    left_behind: Counter[str] = Counter()
    overlong = 0
    while not result.done:
        read = readable(environment, policy, result, latest)
        silent = result.observations.keys() - read.keys()
        overlong += len(silent)
        candidates = await _candidates(policy, rows, read, latest, options)
        forks = [environment.fork(seed=k) for k in range(len(rows))]
        steps = (
            checked_step(fork, actions(fork, policy, joint.values(), silent))
            for fork, joint in zip(forks, candidates, strict=True)
        )
        stepped = await gather(*steps)
        for joint, after in zip(candidates, stepped, strict=True):
            _pay(joint, after, silent, episode)
        chosen = _select(candidates, select, derive_seed(episode.seed, "select", len(decisions)))
        left_behind += _spent(result, [after for k, after in enumerate(stepped) if k != chosen])
        for k, fork in enumerate(forks):
            if k != chosen:
                fork.close()
        environment.close()
        environment, result, latest = forks[chosen], stepped[chosen], latest | candidates[chosen]
        for decision in candidates[chosen].values():
            decision.on_path = True
        decisions += [decision for joint in candidates for decision in joint.values()]
        final |= cut_off(environment, policy, result, latest)
    trajectory = finish(environment, episode, decisions, result, final, overlong)
    for name, count in left_behind.items():
        trajectory.metrics[name] = trajectory.metrics.get(name, 0.0) + count
    return trajectory


async def _candidates(
    policy: Policy, rows: list[Episode], read: dict[AgentId, Any], latest: Joint, options: dict[str, Any]
) -> list[Joint]:
    """Draw every acting agent's candidates; the k-th of each agent are one joint action."""
    drawn = await gather(
        *(_draw(policy, rows, agent, observation, latest, options) for agent, observation in read.items())
    )
    return [{decisions[k].agent: decisions[k] for decisions in drawn} for k in range(len(rows))]


async def _draw(
    policy: Policy,
    rows: list[Episode],
    agent: AgentId,
    observation: Any,
    latest: Joint,
    options: dict[str, Any],
) -> list[Decision]:
    turn = next_turn(agent, latest)
    seeds = [derive_seed(row.seed, "policy", agent, turn) for row in rows]
    choices = await policy.act([observation] * len(rows), seeds, agents=[agent] * len(rows), **options)
    return [
        Decision(
            episode_id=rows[0].id,
            agent=agent,
            turn=turn,
            choice=choice,
            reward=0.0,
            group_id=f"{rows[0].group}:{turn}:{agent}",
            on_path=False,
            observation=observation,
        )
        for choice in choices
    ]


def _pay(joint: Joint, after: StepResult, silent: Container[AgentId], episode: Episode) -> None:
    """Pay each candidate what its own step paid its agent.

    Raises:
        ReasonEnvsError: the step paid an agent that did not act, whose candidates cannot be told apart by that.
    """
    for agent, reward in after.rewards.items():
        if agent in joint:
            joint[agent].reward += reward
        elif reward and agent not in silent:
            raise ReasonEnvsError(
                f"Task {episode.task.id!r}: a step of {' and '.join(joint)} paid {reward} to {agent!r}. AT-GRPO "
                "compares candidates by what their own step pays their agent: pay whoever acts, or use algo=grpo, "
                "which compares whole episodes."
            )


def _select(candidates: list[Joint], select: str, seed: int) -> int:
    """Return the place of the candidate to continue from; of equally paid ones the first is the best."""
    if select == "sample":
        return int(np.random.default_rng(seed).integers(len(candidates)))
    if select == "first":
        return 0
    return int(np.argmax([sum(decision.reward for decision in joint.values()) for joint in candidates]))


def _spent(before: StepResult, losing: Sequence[StepResult]) -> Counter[str]:
    """Count what the forks that are left behind spent in their one step."""
    spent = {
        name: sum(after.info.get(name, 0) - before.info.get(name, 0) for after in losing)
        for name in COUNTERS
        if any(name in after.info for after in losing)
    }
    return Counter(spent)
