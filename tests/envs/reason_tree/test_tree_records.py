"""Search trees replayed from a record: equal to the live trees, and closed at the end of the record."""

import asyncio

import numpy as np
import pytest
from scripted_engine import ScriptedEngine
from step_reward_toys import ScriptedStepRewardModel
from tree_toys import Sums, half_point, hashed_scores, make_tree, play, write

import reason_envs
from reason_envs.core import derive_seed
from reason_envs.envs.reason_tree.environment import BRANCH, EXPAND, TERMINATE
from reason_envs.llm.engines.recorded.engine import RecordedEngine
from reason_envs.reward_models.recorded import RecordedStepRewardModel

SEEDS = range(12)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "record.jsonl")


def actions(seed, count=20):
    return np.random.default_rng(seed).integers(-1, 5, count).tolist()


def refuse(*_):
    raise AssertionError("asked")


def recording(path, script=write, scores=hashed_scores):
    return {
        "engine": RecordedEngine(path=path, live=ScriptedEngine(script)),
        "reward_model": RecordedStepRewardModel(path=path, live=ScriptedStepRewardModel(scores)),
    }


def replayed(path, **options):
    source = {"name": "recorded", "path": path}
    return make_tree(engine=source, reward_model=source, **options)


def assert_same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert (a.rewards, a.terminated, a.truncated) == (b.rewards, b.terminated, b.truncated)
        np.testing.assert_equal(a.info, b.info)
        np.testing.assert_equal(a.observations, b.observations)
        np.testing.assert_equal(a.final_observations, b.final_observations)


@pytest.mark.parametrize("seed_scope", ["episode", "task"])
def test_recorded_episodes_equal_the_live_ones(path, seed_scope):
    options = {"seed_scope": seed_scope, "max_nodes": 12, "max_depth": 4}
    live = [play(make_tree(**options), actions(s), s) for s in SEEDS]
    recorder = make_tree(**options, **recording(path))
    for results, seed in zip(live, SEEDS, strict=True):
        assert_same(results, play(recorder, actions(seed), seed))
    again = make_tree(**options, **recording(path, refuse, refuse))
    for results, seed in zip(live, SEEDS, strict=True):
        assert_same(results, play(again, actions(seed), seed))
    assert sum(results[-1].info.get("generated_tokens", 0) for results in live) > 0


def new_step(request, seed):
    """A step without duplicates, sometimes with an answer."""
    return f"step {seed}" + (r" \boxed{6}" if seed % 4 == 0 else "") + "\n"


async def grow_all(env, task):
    await env.reset(seed=0, options={"task": task})
    tree = env.state.tree
    for index, _ in enumerate(tree.nodes):
        while env.grower.may_grow(tree, index):
            await env.grower.grow(tree, index)


def test_complete_record_replays_without_a_model(path):
    options = {"seed_scope": "task", "max_nodes": 40, "max_depth": 2, "max_branch": 2}
    recorder = make_tree(**options, **recording(path, new_step))
    for task in Sums():
        asyncio.run(grow_all(recorder, task))
    replay, live = replayed(path, **options), make_tree(**options, script=new_step)
    for seed in range(1000, 1040):
        assert_same(play(live, actions(seed), seed), play(replay, actions(seed), seed))


def test_actions_beyond_the_record_are_masked(path):
    options = {"seed_scope": "task"}
    task = Sums()[3]
    recorder = make_tree(**options, **recording(path, lambda request, seed: f"step {seed}\n"))
    play(recorder, [EXPAND, BRANCH, EXPAND], task=task)
    replay = replayed(path, **options)
    masks = [r.info["action_mask"].tolist() for r in play(replay, [EXPAND, BRANCH, EXPAND], task=task)]
    assert masks == [[1, 0, 0, 0], [0, 1, 1, 0], [1, 0, 1, 0], [0, 0, 1, 0]]
    nothing = play(replay, [EXPAND, TERMINATE], task=Sums()[4])
    assert nothing[0].info["action_mask"].tolist() == [0, 0, 0, 1]
    assert [r.info["valid_action"] for r in nothing[1:]] == [False, True]
    assert nothing[-1].terminated == {"searcher": True}


def test_legal_actions_never_exhaust_the_record(path):
    options = {"seed_scope": "task", "max_depth": 3}
    for seed in SEEDS:
        play(make_tree(**options, **recording(path)), actions(seed), seed)
    replay = replayed(path, **options)

    async def episode(seed):
        result = await replay.reset(seed=seed)
        while not result.done:
            legal = np.flatnonzero(result.info["action_mask"])
            result = await replay.step({"searcher": legal[derive_seed(seed, replay.state.steps) % len(legal)]})
            assert not any(node.closed for node in replay.state.tree.nodes)
        return result.info["generator_calls"]

    assert sum(asyncio.run(episode(seed)) for seed in range(100)) > 50


def test_model_is_recorded_and_replayed(path, tiny_model):
    """Live, the tokenizer encodes the problem; in a replay, the record has the tokens of the problem."""
    options = {"tasks": Sums(), "reward": half_point, "max_step_tokens": 12, "seed_scope": "task", "max_nodes": 12}
    live = {"name": "transformers", "model": tiny_model, "device": "cpu"}
    recorded = {"name": "recorded", "path": path}

    def episodes(**parts):
        env = reason_envs.make_environment("reason_tree", **options, **parts)
        return [play(env, actions(seed, 12), seed) for seed in range(4)]

    expected = episodes(engine=live, reward_model="random")
    parts = {kind: {**recorded, "live": model} for kind, model in (("engine", live), ("reward_model", "random"))}
    for results in (episodes(**parts), episodes(**parts)):
        for ours, theirs in zip(results, expected, strict=True):
            assert_same(ours, theirs)
