"""ReasonTree-v0: legal actions, effects, telescoping rewards, forks and addressed draws."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tree_toys import BACKTRACK, BRANCH, EXPAND, TERMINATE, make_tree, play, rewards, shape

from agents.config.compose import compose_config
from reason_envs.envs.reason_tree.tree import AGGREGATIONS
from reason_envs.errors import ReasonEnvsError

both = pytest.mark.parametrize("name", ["reason_tree", "reason_tree_paper"])
ACTIONS = st.lists(st.integers(-1, 7), max_size=25)
LIMITS = st.fixed_dictionaries(
    {
        "max_depth": st.integers(1, 4),
        "max_nodes": st.integers(2, 8),
        "max_branch": st.integers(1, 3),
        "aggregation": st.sampled_from(sorted(AGGREGATIONS)),
    }
)
COSTS = {"expand_cost": 0.1, "branch_cost": 0.2, "backtrack_cost": 0.3, "illegal_penalty": 0.7, "step_penalty": 0.05}
PRICES = {"EXPAND": 0.1, "BRANCH": 0.2, "BACKTRACK": 0.3, "TERMINATE": 0.0}
quick = settings(max_examples=60, deadline=None)


def walk(env, actions, seed):
    """Take actions; yield (action, state before it, result) for each."""

    async def episode():
        result, taken = await env.reset(seed=seed), []
        for action in actions:
            if result.done:
                break
            before = env.state.current, env.action_masks(), env.state.tree.nodes[env.state.current].value
            result = await env.step({"searcher": action})
            taken.append((action, *before, result))
        return taken

    return asyncio.run(episode())


def is_legal(action, mask):
    return 0 <= action < len(mask) and bool(mask[action])


def price(action, mask, names):
    return 0.05 + (PRICES[names[action].partition("_")[0]] if is_legal(action, mask) else 0.7)


@both
@quick
@given(limits=LIMITS, actions=ACTIONS, seed=st.integers(0, 99), weight=st.sampled_from([0.0, 1.0, 2.5]))
def test_rewards_telescope_and_loops_earn_nothing(name, limits, actions, seed, weight):
    env = make_tree(name, **limits, **COSTS, value_weight=weight)
    taken = walk(env, actions, seed)
    paid = [result.rewards["searcher"] for *_, result in taken]
    costs = [price(action, mask, env.action_names) for action, _, mask, _, _ in taken]
    root, end = env.state.tree.nodes[0].value, env.state.tree.nodes[env.state.current].value
    final = 0.5 if env.state.answered else 0.0
    assert sum(paid) == pytest.approx(weight * (end - root) - sum(costs) + final)
    for i, (_, start, *_) in enumerate(taken):
        for j in range(i + 1, len(taken)):
            if taken[j][1] == start:  # a walk that returns to its start
                assert sum(paid[i:j]) == pytest.approx(-sum(costs[i:j]))


@both
@quick
@given(limits=LIMITS, actions=ACTIONS, seed=st.integers(0, 99))
def test_masks_match_step_and_limits_hold(name, limits, actions, seed):
    env = make_tree(name, **limits)

    async def check(action):
        mask, before, state = env.action_masks(), shape(env.state.tree), env.state
        fork = env.fork()
        result = await fork.step({"searcher": action})
        legal = is_legal(action, mask)
        assert result.info["valid_action"] == legal
        same = shape(fork.state.tree) == before and fork.state.current == state.current and not fork.state.answered
        assert same != legal
        assert shape(env.state.tree) == before
        if not legal:
            assert result.rewards == {"searcher": pytest.approx(-env.config.illegal_penalty)}

    async def episode():
        result = await env.reset(seed=seed)
        for action in actions:
            if result.done:
                break
            assert env.action_masks().any()
            for any_action in range(-1, 8):
                await check(any_action)
            result = await env.step({"searcher": action})
            tree = env.state.tree
            assert len(tree.nodes) <= limits["max_nodes"]
            assert max(node.depth for node in tree.nodes) <= limits["max_depth"]
            assert max(len(node.children) for node in tree.nodes) <= limits["max_branch"]
            seen = result.observations or result.final_observations
            assert env.observation_space("searcher").contains(seen["searcher"])
            assert not any(tree.nodes[node.parent].terminal for node in tree.nodes[1:])

    asyncio.run(episode())


@both
@quick
@given(limits=LIMITS, actions=ACTIONS, seed=st.integers(0, 99))
def test_generated_tokens_are_counted_once(name, limits, actions, seed):
    env = make_tree(name, **limits)
    results = play(env, actions, seed)
    tree, engine = env.state.tree, env.grower.engine
    assert tree.generated_tokens == engine.generated_tokens == sum(node.tokens for node in tree.nodes)
    assert tree.generator_calls == engine.batcher.requests
    assert tree.reward_model_tokens == env.grower.reward_model.scored_tokens
    if results[-1].done:
        assert results[-1].info["generated_tokens"] == tree.generated_tokens


@both
@quick
@given(actions=ACTIONS, seed=st.integers(0, 99))
def test_same_seed_and_actions_give_the_same_episode(name, actions, seed):
    first, again = (
        play(
            make_tree(
                name,
            ),
            actions,
            seed,
        )
        for _ in range(2)
    )
    assert rewards(first) == rewards(again)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_equal(a.observations, b.observations)
        np.testing.assert_equal(a.info, b.info)


@both
@quick
@given(limits=LIMITS, actions=ACTIONS, more=ACTIONS, seed=st.integers(0, 99))
def test_forks_repeat_the_draws_and_are_isolated(name, limits, actions, more, seed):
    env = make_tree(name, **limits)
    if play(env, actions, seed)[-1].done:
        return
    before = shape(env.state.tree)
    fork, other = env.fork(), env.fork()

    async def go_on(environment):
        paid, done = [], False
        for action in more:
            if not done:
                result = await environment.step({"searcher": action})
                paid, done = [*paid, result.rewards], result.done
        return paid, shape(environment.state.tree)

    played = asyncio.run(go_on(fork))
    assert shape(env.state.tree) == before
    assert asyncio.run(go_on(other)) == played == asyncio.run(go_on(env))


def test_fork_with_a_seed_has_other_draws():
    env = make_tree(script=lambda request, seed: f"step {seed}\n")
    play(env, [EXPAND])
    texts = set()
    for fork in (env.fork(), env.fork(seed=1), env.fork(seed=2), env.fork(seed=1)):
        asyncio.run(fork.step({"searcher": EXPAND}))
        texts.add(fork.state.tree.nodes[2].text)
    assert len(texts) == 3


def test_draws_depend_on_the_place_in_the_tree():
    script = {"script": lambda request, seed: f"step {seed}\n"}
    straight, detour = make_tree(**script), make_tree(**script)
    play(straight, [EXPAND, EXPAND])
    play(detour, [EXPAND, BRANCH, BRANCH, BACKTRACK, EXPAND, BACKTRACK, EXPAND])
    texts = [{detour.state.tree.steps(i) for i in range(len(detour.state.tree.nodes))}]
    assert straight.state.tree.steps(1) in texts[0]
    # down the first child in both trees; the second walk visited other nodes in between
    fork = detour.fork()
    fork.state.current = 1
    asyncio.run(fork.step({"searcher": EXPAND}))
    assert fork.state.tree.steps(fork.state.current) == straight.state.tree.steps(2)


def test_seed_scope_task_gives_every_episode_the_same_tree():
    options = {"script": lambda request, seed: f"step {seed}\n", "seed_scope": "task"}
    task = {"question": "What is 1 + 5?", "answer": "6"}
    one, other = make_tree(**options), make_tree(**options)
    play(one, [EXPAND, BRANCH, EXPAND], seed=1, task=task)
    play(other, [EXPAND, BRANCH, EXPAND], seed=2, task=task)
    assert shape(one.state.tree) == shape(other.state.tree)
    play(other, [EXPAND], seed=1, task={**task, "question": "What is 2 + 4?"})
    assert one.state.tree.nodes[1].text != other.state.tree.nodes[1].text
    fork = one.fork(seed=9)
    asyncio.run(fork.step({"searcher": EXPAND}))
    asyncio.run(one.step({"searcher": EXPAND}))
    assert shape(fork.state.tree) == shape(one.state.tree)


def lines(*texts):
    """A generator that writes these steps by the depth of the request and then by its draw."""

    def script(request, seed):
        written = "" if isinstance(request.prompt[0], dict) else "".join(map(chr, request.prompt))
        return texts[written.count("\n")]

    return script


def test_episode_has_known_rewards():
    env = make_tree(
        script=lines("1 + 5 = 6\n", "\\boxed{6}"),
        scores=lambda question, steps: [0.9, 0.5][: len(steps)],
        reward="math",
        expand_cost=0.01,
        final_reward_correct=2.0,
    )
    task = {"question": "What is 1 + 5?", "answer": "6"}
    start, first, second, end = play(env, [EXPAND, EXPAND, TERMINATE], task=task)
    assert start.info["action_mask"].tolist() == [1, 0, 0, 0]
    assert first.rewards == {"searcher": pytest.approx(-0.1 - 0.01)}
    assert first.info["action_mask"].tolist() == [1, 1, 1, 0]
    assert second.rewards == {"searcher": pytest.approx(0.45 - 0.9 - 0.01)}
    assert second.info["action_mask"].tolist() == [0, 1, 1, 1]
    assert (end.rewards, end.terminated, end.truncated) == ({"searcher": 2.0}, {"searcher": True}, {"searcher": False})
    expected = {"correct": True, "extracted": "6", "no_answer": False, "nodes": 3, "depth": 2, "generator_calls": 2}
    expected |= {"generated_tokens": 19, "reward_model_calls": 2, "reward_model_tokens": 14 + 9 + 14 + 18}
    assert {name: end.info[name] for name in expected} == expected
    assert end.info["path_value"] == pytest.approx(0.45)


@pytest.mark.parametrize(("answer", "paid"), [("6", 1.0), ("7", -0.5)])
def test_final_reward_is_paid_by_grade(answer, paid):
    env = make_tree(script="\\boxed{6}", scores=lambda *_: [1.0], reward="math", final_reward_wrong=-0.5)
    task = {"question": "What is 1 + 5?", "answer": answer}
    assert play(env, [EXPAND, TERMINATE], task=task)[-1].rewards == {"searcher": pytest.approx(paid)}


def test_duplicate_steps_are_merged_and_their_tokens_counted():
    env = make_tree(script="the same\n", scores=lambda question, steps: [0.8] * len(steps))
    *_, second = play(env, [EXPAND, BRANCH])
    tree = env.state.tree
    assert (len(tree.nodes), env.state.current, tree.nodes[1].tokens) == (2, 1, 2 * len("the same\n"))
    assert (tree.generator_calls, tree.reward_model_calls, tree.nodes[0].draw_count) == (2, 1, 2)
    assert second.rewards == {"searcher": pytest.approx(-env.config.branch_cost)}


def test_max_steps_truncates_with_a_final_observation():
    env = make_tree(max_steps=3, script="on\n", scores=lambda question, steps: [0.5] * len(steps))
    end = play(env, [EXPAND, EXPAND, -1])[-1]
    assert (end.terminated, end.truncated) == ({"searcher": False}, {"searcher": True})
    assert end.rewards == {"searcher": pytest.approx(-env.config.illegal_penalty)}
    assert end.final_observations["searcher"]["current"] == [2.0]
    assert (end.info["correct"], end.info["no_answer"], end.info["valid_action"]) == (False, True, False)
    assert end.info["illegal_actions"] == 1
    with pytest.raises(ReasonEnvsError, match="call reset first"):
        asyncio.run(env.step({"searcher": EXPAND}))


def test_submission_in_the_last_step_terminates():
    env = make_tree(max_steps=2, script="\\boxed{6}\n", reward="math")
    end = play(env, [EXPAND, TERMINATE], task={"question": "?", "answer": "6"})[-1]
    assert (end.terminated, end.truncated) == ({"searcher": True}, {"searcher": False})


def test_max_steps_is_four_times_the_depth_by_default():
    env = make_tree(max_depth=3, script="on\n")
    assert len(play(env, [EXPAND, BACKTRACK] * 20)) == 1 + 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation": "prod"}, "Did you mean 'product'"),
        ({"seed_scope": "tasks"}, "Did you mean 'task'"),
        ({"max_nodes": 1}, "max_nodes=1 must be at least 2"),
        ({"max_steps": 0}, "max_steps=0 must be at least 1"),
        ({"branch_cost": -1}, "branch_cost=-1 must be at least 0"),
        ({"separator": ""}, "separator='' must not be empty"),
        ({"max_deph": 3}, "Did you mean 'max_depth'"),
        ({"draws": "task"}, "has a new name: 'seed_scope'"),
        ({"render_mode": "rgb"}, "rgb_array"),
    ],
)
def test_config_errors_name_the_option(options, message):
    with pytest.raises(ReasonEnvsError, match=message):
        make_tree(**options)


def test_renamed_options_give_the_new_name_on_the_command_line():
    with pytest.raises(ReasonEnvsError, match=r"'env\.draws'\. It has a new name: 'env\.seed_scope'"):
        compose_config(["env=reason_tree", "env.draws=task"])
