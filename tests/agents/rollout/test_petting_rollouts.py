"""Groups, credit and observations of roles in rollouts of the Petting environments."""

import asyncio
from collections import defaultdict
from random import Random

import pytest

from agents.policies.base import Policy
from agents.rollout.episodes import grouped
from agents.rollout.turn_tree import play_turn_tree
from agents.trajectory import Choice
from reason_envs import make_environment
from reason_envs.llm.engine import Sampling

TASKS, K = 8, 4


def plausible(name, agent, rng):
    """Return a response that an untrained model could write."""
    number, moves = rng.randint(-9, 99), "".join(rng.choices("UDLR", k=3))
    return {
        "petting_plan_path": {"tool": f"print({moves!r})", "planner": rf"\boxed{{{moves}}}"},
        "petting_sokoban": {"tool": f"print({moves!r})", "planner": rf"\boxed{{{moves}}}"},
        "petting_sudoku": {"tool": "for row in grid: print(*row)", "planner": f"{number}"},
        "petting_math": {"tool": f"print({number})", "reasoner": rf"\boxed{{{number}}}"},
        "petting_code": {"coder": f"def f(x): return x + {number % 3}", "tester": f"assert f({number}) == {number}"},
    }[name][agent]


class Drawn(Policy):
    """Chooses each response by its seed."""

    def __init__(self, name):
        self.name = name

    def observe(self, environment, observation):
        return observation

    async def act(self, observations, seeds, sampling=None, *, agents):
        texts = [plausible(self.name, agent, Random(seed)) for agent, seed in zip(agents, seeds, strict=True)]
        return [Choice([1], None, Sampling(), "stop", 0, [3], text) for text in texts]


def rollout(name, alpha=1.0):
    environment = make_environment(name, alpha=alpha)
    plan = grouped([environment.tasks[i] for i in range(TASKS)], K, seed=5)
    trajectories = asyncio.run(play_turn_tree(environment, Drawn(name), plan, "best"))
    groups = defaultdict(list)
    for trajectory in trajectories:
        for decision in trajectory.decisions:
            groups[decision.group_id].append(decision)
    return environment, trajectories, groups


NAMES = ["petting_plan_path", "petting_sokoban", "petting_sudoku", "petting_math", "petting_code"]


@pytest.mark.parametrize("name", NAMES)
def test_turn_tree_groups_candidates_by_turn_and_agent(name):
    environment, trajectories, groups = rollout(name)
    decided = sum(len(trajectory.path) for trajectory in trajectories)
    assert {len(group) for group in groups.values()} == {K}
    assert len(groups) == decided <= TASKS * 2 * 4
    assert any(len(trajectory.path) == 8 for trajectory in trajectories)
    assert all(len({d.observation for d in group}) == 1 for group in groups.values())
    for trajectory in trajectories:
        assert [d.agent for d in trajectory.path] == [environment.agents[i % 2] for i in range(len(trajectory.path))]
        for before, after in zip(trajectory.path, trajectory.path[1:], strict=False):
            assert f"{before.agent}: {before.choice.text}\n= " in after.observation
    assert environment.state is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
def test_turn_tree_pays_each_candidate_for_its_own_step(name, alpha):
    """Replay the executed decisions one by one, followed by the candidate."""
    environment, trajectories, groups = rollout(name, alpha)

    async def replay(task, past, candidate):
        again = environment.fork()
        await again.reset(seed=0, options={"task": task})
        for decision in past:
            await again.step({decision.agent: decision.choice.text})
        result = await again.step({candidate.agent: candidate.choice.text})
        return alpha * result.info["team_reward"] + result.info["local_reward"]

    for i, trajectory in enumerate(trajectories[:2]):
        for place, executed in enumerate(trajectory.path):
            group, past = groups[executed.group_id], trajectory.path[:place]
            assert executed.reward == max(candidate.reward for candidate in group)
            for candidate in group:
                assert candidate.reward == asyncio.run(replay(environment.tasks[i], past, candidate))
