"""GRPO and AT-GRPO on the search tree: caches and costs of forks, and learning when to stop."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from tree_toys import BRANCH, EXPAND, Sums, make_tree, play

from agents.algorithms.at_grpo import ATGRPO, ATGRPOConfig
from agents.algorithms.grpo import GRPO, GRPOConfig
from agents.algorithms.optimizer import OptimizerConfig
from agents.policies.graph import GraphPolicy, GraphPolicyConfig
from agents.rollout import episodes as rollout
from agents.rollout.episodes import grouped
from reason_envs.llm import make_engine
from reason_envs.reward_models.transformers import TransformersStepRewardModel

ALGORITHMS = {"grpo": (GRPO, GRPOConfig), "at_grpo": (ATGRPO, ATGRPOConfig)}


def make_learner(name, env, seed=0, **options):
    policy = GraphPolicy(GraphPolicyConfig(channels=8, layers=1, device="cpu"), seed=seed, environment=env)
    learner, config = ALGORITHMS[name]
    return learner(config(**{"tasks_per_step": 8, **options}), policy, env, Sums(), total_steps=20, seed=seed)


def share_correct(learner):
    """Return the accuracy of independent episodes."""
    plan = grouped(list(Sums()), 16, seed=7)
    return np.mean([t.metrics["correct"] for t in asyncio.run(rollout.play(learner.environment, learner.policy, plan))])


# --- forks of a real tree


def real_tree(model, prefix_cache_mb=64):
    """Return a tree with a real generator and reward model, which cache prefixes."""
    engine = make_engine("transformers", model=model, device="cpu", prefix_cache_mb=prefix_cache_mb)
    scorer = TransformersStepRewardModel(device="cpu", prefix_cache_mb=prefix_cache_mb)
    return make_tree(engine=engine, reward_model=scorer, max_step_tokens=4, max_depth=4, max_steps=6)


def test_forks_share_the_caches_of_generator_and_reward_model(tiny_model):
    """Forks continue from the caches, and get the samples and scores that they would get without them."""
    found = []
    for keep in (64, 0):
        env = real_tree(tiny_model, keep)
        play(env, [EXPAND] * 3, seed=1)
        fork = env.fork(seed=5)
        for ours, theirs in zip(fork.state.tree.nodes, env.state.tree.nodes, strict=True):
            assert ours.generator_prefix_cache is theirs.generator_prefix_cache
            assert ours.reward_model_prefix_cache is theirs.reward_model_prefix_cache
        kept = fork.state.tree.nodes[-1]
        caches = (kept.generator_prefix_cache, kept.reward_model_prefix_cache)
        assert [cache is not None for cache in caches] == [keep > 0, keep > 0]
        asyncio.run(fork.step({"searcher": BRANCH}))
        assert len(fork.state.tree.nodes) == len(env.state.tree.nodes) + 1
        found.append(fork.state.tree.nodes)
    assert [node.text for node in found[0]] == [node.text for node in found[1]]
    assert [node.score for node in found[0]] == pytest.approx([node.score for node in found[1]], abs=1e-5)


def test_turn_tree_counts_tokens_of_every_fork(tiny_model):
    env = real_tree(tiny_model)
    learner = make_learner("at_grpo", env, tasks_per_step=2, samples_per_task=3)
    trajectories = asyncio.run(learner.collect(0))
    decisions = [d for t in trajectories for d in t.decisions]
    assert {True, False} == {d.on_path for d in decisions}
    assert sum(t.generated_tokens for t in trajectories) == env.grower.engine.generated_tokens > 0


def test_candidates_extend_the_tree_differently():
    env = make_tree(script=lambda request, seed: f"step {seed}\n", max_steps=3)
    learner = make_learner("at_grpo", env, tasks_per_step=4)
    first = [[d for d in t.decisions if d.turn == 0] for t in asyncio.run(learner.collect(0))]
    assert {d.choice.text for group in first for d in group} == {"EXPAND"}, "nothing else is legal"
    assert all(len({d.reward for d in group}) == len(group) for group in first)


# --- learning


@pytest.mark.parametrize(
    ("name", "steps", "options"),
    [
        ("grpo", 15, {"optimizer": OptimizerConfig(learning_rate=1e-2)}),
        # Continuing from the best candidate would leave the states with a signal.
        (
            "at_grpo",
            25,
            {"optimizer": OptimizerConfig(learning_rate=1e-2), "samples_per_task": 4, "select": "sample"},
        ),
    ],
)
def test_graph_policy_learns_when_to_stop(name, steps, options):
    """Half of the steps are right, and scores tell which: find a high score, then submit."""
    env = make_tree(
        script=lambda request, seed: "\\boxed{6}\n" if seed % 2 else "\\boxed{7}\n",
        scores=lambda question, steps: [0.9 if "6" in step else 0.1 for step in steps],
        reward=lambda response, task: (float("6" in response), {"correct": "6" in response}),
        max_steps=10,
    )
    learner = make_learner(name, env, **options)
    before = share_correct(learner)
    for step in range(steps):
        metrics = learner.update(asyncio.run(learner.collect(step)), step)
        assert 0 <= metrics["frac_same_action"] <= 1
    assert before < 0.7
    assert share_correct(learner) > 0.85
