"""Search trees with vLLM as the generator."""

import asyncio
import importlib.util

import numpy as np
import pytest

from reason_envs import make_environment
from reason_envs.core import derive_seed
from reason_envs.envs.reason_tree.environment import EXPAND, TERMINATE
from reason_envs.llm import make_engine
from reason_envs.vector import VectorEpisodes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (extra [vllm])"),
]

PROBLEMS = 8


@pytest.fixture
def engine(vllm_engine):
    return vllm_engine


def straight_on(mask, slot, step):
    return TERMINATE if mask[TERMINATE] else EXPAND


def any_legal(mask, slot, step):
    legal = np.flatnonzero(mask)
    return int(legal[derive_seed(slot, step) % len(legal)])


def play(engine, choose, **options):
    """Play an episode of each problem. Return the trees, the last infos and the number of rounds."""
    environment = make_environment("reason_tree", engine=engine, reward_model="random", **options)
    episodes = VectorEpisodes.of(environment, PROBLEMS)

    async def rounds():
        results = await episodes.reset(seeds={slot: slot for slot in range(PROBLEMS)})
        count = 0
        while live := episodes.live:
            moves = {s: {"searcher": choose(results[s].info["action_mask"], s, count)} for s in live}
            results |= await episodes.step(moves)
            assert all(results[s].info["valid_action"] for s in live)
            count += 1
        return results, count

    results, count = asyncio.run(rounds())
    return [e.state.tree for e in episodes.environments], [results[s].info for s in range(PROBLEMS)], count


def texts(trees):
    return [[node.text for node in tree.nodes] for tree in trees]


def test_reason_tree_vllm_greedy_steps_equal_the_transformers_engine(engine):
    greedy = {"temperature": 0.0, "expand_cost": 0.0}
    ours, infos, _ = play(engine, straight_on, **greedy)
    theirs, expected, _ = play(make_engine("transformers", device="cpu"), straight_on, **greedy)
    equal = [a == b for a, b in zip(texts(ours), texts(theirs), strict=True)]
    assert sum(equal) >= PROBLEMS - 1  # near-ties may flip
    for same, info, other in zip(equal, infos, expected, strict=True):
        if same:
            assert info["generated_tokens"] == other["generated_tokens"]
            assert info["correct"] == other["correct"]


def test_reason_tree_vllm_plays_sampled_episodes(engine):
    before = engine.generated_tokens
    trees, infos, _ = play(engine, any_legal)
    assert engine.generated_tokens - before == sum(info["generated_tokens"] for info in infos) > 0
    for tree, info in zip(trees, infos, strict=True):
        assert info["generated_tokens"] == sum(node.tokens for node in tree.nodes)
        assert any(node.terminal for node in tree.nodes) or info["no_answer"]
    again, _, _ = play(engine, any_legal)
    assert sum(a == b for a, b in zip(texts(again), texts(trees), strict=True)) >= PROBLEMS - 1  # near-ties may flip
