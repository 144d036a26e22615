"""The rollout of AT-GRPO: several candidates per turn from the same state; the episode continues from one of them.

A task is played once. At each turn every agent that must act samples K candidates from the same observation. Each
candidate is stepped on its own fork. Then one fork continues, so that the next agent sees the result of its candidate.
If several agents act together, their k-th candidates are stepped together as one joint action.
"""

import itertools
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from agents.policies.base import Policy
from agents.rollout.episodes import (
    EpisodeSpec,
    actions,
    bootstrap_observations,
    decide,
    failed,
    finish,
    limited,
    play_shared,
    policy_inputs,
)
from agents.trajectory import Decision, Trajectory
from reason_envs.batching import gather
from reason_envs.core import AgentId, Environment, StepResult, checked_reset, checked_step, derive_seed
from reason_envs.errors import EngineError, ReasonEnvsError, RewardError
from reason_envs.llm.engine import Sampling

COUNTERS = ("generated_tokens", "reward_model_tokens")
"""Numbers that an environment counts from the start of an episode. What the other forks spent is added to them."""
Joint = dict[AgentId, Decision]
"""One candidate per agent that acts."""


async def play_turn_tree(
    environment: Environment,
    policy: Policy,
    episodes: Sequence[EpisodeSpec],
    select: str,
    *,
    sampling: Sampling | None = None,
) -> list[Trajectory]:
    """Play each task once, with as many candidates per turn as the task has episodes in the result of ``grouped``.

    The k-th candidate is sampled with the seed of that turn in the k-th episode. So tasks with one turn get the same
    choices as independent episodes. Candidates of all tasks that are sampled at the same time form one batch. If
    several processes train together, each plays some tasks. ``sampling=None`` takes the parameters of the policy.

    Returns:
        One trajectory per task. Its decisions are all candidates, grouped by (task, turn, agent), each with the reward
        of that step; ``on_path`` is true for those that the episode continued from.
    """
    trees = [list(rows) for _, rows in itertools.groupby(episodes, key=lambda episode: episode.group)]
    return await play_shared(trees, 1, lambda rows: _play(environment.fork(), policy, rows, select, sampling))


async def _play(
    environment: Environment, policy: Policy, rows: list[EpisodeSpec], select: str, sampling: Sampling | None
) -> Trajectory:
    episode = rows[0]
    result = await checked_reset(environment, seed=episode.seed, options={"task": episode.task})
    decisions: list[Decision] = []
    latest: Joint = {}
    final: dict[AgentId, Any] = {}
    spent: Counter[str] = Counter()
    overlong = 0
    while not result.done:
        inputs = policy_inputs(environment, policy, result, latest)
        skipped_agents = result.observations.keys() - inputs.keys()
        overlong += len(skipped_agents)
        candidates = await _candidates(policy, rows, inputs, latest, sampling)
        forks = [environment.fork(seed=k) for k in range(len(rows))]
        steps = (
            checked_step(fork, actions(fork, policy, joint.values(), skipped_agents))
            for fork, joint in zip(forks, candidates, strict=True)
        )
        try:
            stepped = await gather(*steps)
        except (EngineError, RewardError) as error:
            sampled = [decision for joint in candidates for decision in joint.values()]
            return failed(episode, [*decisions, *sampled], result, error, environment, *forks)
        for joint, after in zip(candidates, stepped, strict=True):
            _pay(joint, after, skipped_agents, episode)
        chosen = _select(candidates, select, derive_seed(episode.seed, "select", len(decisions)))
        spent += _spent(result, [after for k, after in enumerate(stepped) if k != chosen])
        for other in (environment, *(fork for k, fork in enumerate(forks) if k != chosen)):
            other.close()
        environment, latest = forks[chosen], latest | candidates[chosen]
        result = limited(environment, stepped[chosen], latest)
        for decision in candidates[chosen].values():
            decision.on_path = True
        decisions += [decision for joint in candidates for decision in joint.values()]
        final |= bootstrap_observations(environment, policy, result, latest)
    trajectory = finish(environment, episode, decisions, result, final, overlong)
    for name, count in spent.items():
        trajectory.metrics[name] = trajectory.metrics.get(name, 0.0) + count
    return trajectory


async def _candidates(
    policy: Policy, rows: list[EpisodeSpec], inputs: Mapping[AgentId, Any], latest: Joint, sampling: Sampling | None
) -> list[Joint]:
    """Sample the candidates of every agent; the k-th candidates of all agents form one joint action."""
    sampled = await gather(
        *(decide(policy, rows, agent, observation, latest, sampling) for agent, observation in inputs.items())
    )
    joints: list[Joint] = [{} for _ in rows]
    for joint, decision in ((joint, d) for decisions in sampled for joint, d in zip(joints, decisions, strict=True)):
        group = f"{rows[0].group}:{decision.turn}:{decision.agent}"
        joint[decision.agent] = replace(decision, group_id=group, on_path=False)
    return joints


def _pay(joint: Joint, after: StepResult, skipped_agents: Container[AgentId], episode: EpisodeSpec) -> None:
    """Add the rewards of a candidate's own step to its decisions.

    Raises:
        ReasonEnvsError: the step paid an agent that did not act, so that its candidates cannot be compared.
    """
    for agent, reward in after.rewards.items():
        if agent in joint:
            joint[agent].reward += reward
        elif reward and agent not in skipped_agents:
            raise ReasonEnvsError(
                f"Task {episode.task.id!r}: a step of {' and '.join(joint)} paid {reward} to {agent!r}. AT-GRPO "
                "compares candidates by the reward that their own step pays to their agent. Pay the agent that acts, "
                "or use algo=grpo, which compares whole episodes."
            )


def _select(candidates: list[Joint], select: str, seed: int) -> int:
    """Return the index of the candidate to continue from; if several are best, the first of them."""
    if select == "sample":
        return int(np.random.default_rng(seed).integers(len(candidates)))
    if select == "first":
        return 0
    return int(np.argmax([sum(decision.reward for decision in joint.values()) for joint in candidates]))


def _spent(before: StepResult, others: Sequence[StepResult]) -> Counter[str]:
    """Count what the forks that do not continue spent in their one step."""
    counted = [name for name in COUNTERS if any(name in after.info for after in others)]
    return Counter({n: sum(after.info.get(n, 0) - before.info.get(n, 0) for after in others) for n in counted})
