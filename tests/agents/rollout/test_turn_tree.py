"""The turn-tree rollout: groups, forks, seeds, token counts and batches."""

import asyncio
from collections import defaultdict

import pytest
from language_toys import make_policy, problems
from role_toys import TOOL_TOKENS, Relay, RelayConfig, Script, spelled_out

from agents.algorithms.sample import SampledTrajectory
from agents.rollout.episodes import grouped, play
from agents.rollout.turn_tree import play_turn_tree
from reason_envs.core import StepResult, derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engines.transformers.engine import TransformersEngine

K = 4


def relay(**options):
    return Relay(RelayConfig(tasks=problems(8), **options))


def rollout(environment, policy, tasks=8, seed=0, select="best", samples=K):
    plan = grouped(list(problems(tasks)), samples, seed)
    return asyncio.run(play_turn_tree(environment, policy, plan, select))


def groups(trajectories):
    found = defaultdict(list)
    for trajectory in trajectories:
        for decision in trajectory.decisions:
            found[decision.group_id].append(decision)
    return found


def executed(trajectory):
    return [f"{d.agent}: {d.choice.text}" for d in trajectory.path]


@pytest.fixture
def policy(tiny_model):
    policy = make_policy(tiny_model, max_tokens=4)
    policy.engine = TransformersEngine(model=tiny_model, device="cpu")
    return policy


@pytest.fixture
def recorded(policy):
    """Play eight tasks with two roles, three turns per role and four candidates."""
    environment = relay(max_turns=3)
    return environment, policy, rollout(environment, policy)


# --- the structure of a recorded rollout


def test_turn_tree_has_one_group_of_k_per_task_turn_and_agent(recorded):
    _, _, trajectories = recorded
    found = groups(trajectories)
    assert len(trajectories) == 8
    assert len(found) == 8 * 2 * 3
    assert {len(group) for group in found.values()} == {K}
    for group in found.values():
        assert len({(d.episode_id, d.agent, d.turn) for d in group}) == 1
        assert sum(d.on_path for d in group) == 1


def test_turn_tree_of_an_early_end_has_fewer_groups():
    script = Script(lambda agent, turn, k: {"scout": "1 0", "digger": "0 0"}[agent])
    trajectories = rollout(relay(max_turns=3, goal=2.0, judge=spelled_out), script)
    found = groups(trajectories)
    assert len(found) == 8 * 3, "scout, digger, scout: the second point ends it"
    assert {len(group) for group in found.values()} == {K}
    assert all(t.terminated and not t.truncated for t in trajectories)


def test_candidates_of_a_group_share_their_observation(recorded):
    _, _, trajectories = recorded
    for group in groups(trajectories).values():
        assert all(d.observation == group[0].observation for d in group)
        assert len({tuple(d.choice.prompt_ids) for d in group}) == 1


def test_prompts_contain_the_executed_candidates_only(recorded):
    _, _, trajectories = recorded
    for trajectory in trajectories:
        history = executed(trajectory)
        for place, decision in enumerate(trajectory.path):
            (message,) = decision.observation
            assert message["content"].endswith("Said: " + " / ".join(history[:place]))
            assert f"You are the {decision.agent}." in message["content"]


def test_forks_leave_their_origin_unchanged(recorded):
    environment, _, trajectories = recorded
    assert environment.state is None
    assert len(environment.forked) == 8 + sum(len(t.decisions) for t in trajectories)
    assert all(parent.state == before for parent, before in environment.forked)


def test_candidates_of_a_group_are_sampled_with_different_seeds(recorded):
    _, _, trajectories = recorded
    found = groups(trajectories).values()
    different = sum(len({d.choice.text for d in group}) for group in found)
    assert different > 0.9 * K * len(found)


def test_candidates_of_all_tasks_form_one_batch_per_turn(recorded):
    _, policy, _ = recorded
    assert (policy.engine.batcher.calls, policy.engine.batcher.requests) == (6, 6 * 8 * K)


def test_forks_call_the_tool_in_one_batch(recorded):
    environment, _, _ = recorded
    assert (environment.tool.calls, environment.tool.requests) == (6, 6 * 8 * K)


def test_turn_tree_of_a_task_is_the_same_in_any_batch(recorded):
    environment, policy, trajectories = recorded
    plan = grouped(list(problems(8)), K, 0)[3 * K : 4 * K]
    (alone,) = asyncio.run(play_turn_tree(environment, policy, plan, "best"))
    assert [d.choice.token_ids for d in alone.decisions] == [d.choice.token_ids for d in trajectories[3].decisions]
    assert [d.reward for d in alone.decisions] == [d.reward for d in trajectories[3].decisions]


# --- selection of the candidate to continue from


def paid(agent, turn, k):
    return f"{(0, 3, 1, 3)[k]} 0"


@pytest.mark.parametrize(("select", "places"), [("best", {1}), ("first", {0}), ("sample", {0, 1, 2, 3})])
def test_select_chooses_the_candidate_to_continue_from(select, places):
    trajectories = rollout(relay(judge=spelled_out), Script(paid), select=select)
    chosen = {[d.on_path for d in group].index(True) for group in groups(trajectories).values()}
    assert chosen == places
    assert all(len(t.path) == 4 for t in trajectories)


def test_select_sample_depends_on_the_seed():
    def drawn(seed):
        trajectories = rollout(relay(judge=spelled_out), Script(paid), seed=seed, select="sample")
        return [d.on_path for t in trajectories for d in t.decisions]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_returns_count_the_path_only():
    (trajectory,) = rollout(relay(judge=spelled_out, alpha=2.0), Script(paid), tasks=1)
    assert trajectory.total_reward == 4 * 2.0 * 3
    assert trajectory.stream_return("scout") == 12.0
    streams = SampledTrajectory.of(trajectory).streams()
    assert [[s.decision.agent for s in stream] for stream in streams] == [["scout"] * 2, ["digger"] * 2]


# --- random draws


def test_candidates_use_the_seeds_of_the_planned_episodes():
    script = Script(paid)
    plan = grouped(list(problems(1)), K, 5)
    asyncio.run(play_turn_tree(relay(judge=spelled_out), script, plan, "best"))
    for agent, turn, seeds in script.asked:
        assert seeds == [derive_seed(row.seed, "policy", agent, turn) for row in plan]


class Watched(Relay):
    """Records the tool's answer to each fork."""

    echoes = None

    async def step(self, actions):
        result = await super().step(actions)
        self.echoes.append((len(self.state.said), result.info["echo"]))
        return result


def test_forks_have_different_random_draws():
    environment = Watched(RelayConfig(tasks=problems(1), judge=spelled_out))
    environment.echoes = []
    rollout(environment, Script(paid), tasks=1)
    first = [echo for said, echo in environment.echoes if said == 1]
    assert len(set(first)) == K
    assert len(set(environment.echoes)) == 4 * K, "and at every turn anew"


# --- the budget


def test_tokens_of_every_candidate_and_fork_are_counted_once():
    (trajectory,) = rollout(relay(judge=spelled_out), Script(paid), tasks=1)
    steps = 4 * K
    assert trajectory.metrics["generated_tokens"] == steps * TOOL_TOKENS
    assert trajectory.generated_tokens == steps * 2 + steps * TOOL_TOKENS
    (alone,) = asyncio.run(play(relay(judge=spelled_out), Script(paid), grouped(list(problems(1)), 1, 0)))
    assert trajectory.generated_tokens == K * alone.generated_tokens


class Uncounted(Relay):
    """Does not report the cost of its tool."""

    async def step(self, actions):
        result = await super().step(actions)
        return StepResult(result.observations, result.rewards, result.terminated, result.truncated)


def test_counters_are_missing_if_the_environment_has_none():
    environment = Uncounted(RelayConfig(tasks=problems(1), judge=spelled_out))
    (trajectory,) = rollout(environment, Script(paid), tasks=1)
    assert "generated_tokens" not in trajectory.metrics
    assert trajectory.generated_tokens == 4 * K * 2


# --- evaluation


def test_play_samples_one_candidate_per_turn():
    script = Script(paid)
    trajectories = asyncio.run(play(relay(judge=spelled_out), script, grouped(list(problems(2)), 3, 0)))
    assert all(len(t.decisions) == len(t.path) == 4 for t in trajectories)
    assert {len(seeds) for _, _, seeds in script.asked} == {1}
    assert all(t.total_reward == 0.0 for t in trajectories), "the first line, however little it pays"


# --- several agents at the same time


def test_joint_candidates_are_grouped_by_agent():
    def line(agent, turn, k):
        return f"{k} {10 * (agent == 'digger')}"

    trajectories = rollout(relay(judge=spelled_out, together=True), Script(line))
    found = groups(trajectories)
    assert len(found) == 8 * 2 * 2
    for group in found.values():
        extra = 10 * (group[0].agent == "digger")
        assert [d.reward for d in group] == [k + extra for k in range(K)], "the k-th of each are one joint action"
        assert [d.on_path for d in group] == [False, False, False, True]
    assert executed(trajectories[0])[:2] == ["scout: 3 0", "digger: 3 10"]


# --- rewards that no comparison could use


class PaysTheOther(Relay):
    amount = 1.0

    async def step(self, actions):
        result = await super().step(actions)
        other = "digger" if "scout" in actions else "scout"
        rewards = {**result.rewards, other: self.amount}
        return StepResult(result.observations, rewards, result.terminated, result.truncated)


def test_turn_tree_refuses_a_reward_for_another_agent():
    environment = PaysTheOther(RelayConfig(tasks=problems(1), judge=spelled_out))
    with pytest.raises(ReasonEnvsError, match=r"'toy/0': a step of scout paid 1\.0 to 'digger'.*use algo=grpo"):
        rollout(environment, Script(paid), tasks=1)
    environment.amount = 0.0
    assert len(groups(rollout(environment, Script(paid), tasks=1))) == 4


def test_turn_tree_names_a_step_without_a_result(policy):
    class Forgetful(Relay):
        async def step(self, actions):
            await super().step(actions)

    with pytest.raises(ReasonEnvsError, match=r"Forgetful\.step must return a StepResult; it returned None"):
        rollout(Forgetful(RelayConfig(tasks=problems(1))), policy, tasks=1)
