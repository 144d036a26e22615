"""ReasonTreePaper-v0: siblings that are drawn together, moves among them, and backtracking by levels."""

from __future__ import annotations

import warnings

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from tree_toys import half_point, make_tree, play, rewards, scripted

from reason_envs import env_config
from reason_envs.envs.reason_tree.paper import BACKTRACK, BRANCH, EXPAND, TERMINATE


def make_paper(texts=("a", "b", "c", "d"), **options):
    """A tree whose siblings are these texts in order, at every depth; every step scores 0.5."""

    def script(request, seed):
        script.drawn += 1
        return texts[(script.drawn - 1) % len(texts)] + "\n"

    script.drawn = 0
    options = {"max_depth": 3, "scores": lambda question, steps: [0.5] * len(steps), **options}
    return make_tree("reason_tree_paper", script=script, **options)


def test_config_has_the_values_of_the_paper():
    config = env_config("reason_tree_paper")()
    assert (config.expand_cost, config.branch_cost, config.backtrack_cost) == (0.1, 0.2, 0.5)
    assert (config.temperature, config.top_p, config.max_branch, config.max_depth) == (0.6, 0.9, 4, 16)
    assert config.aggregation == "sum"
    assert make_tree("reason_tree_paper").action_space("searcher").n == 2 + 16


def test_first_expansion_draws_all_siblings_in_one_batch():
    env = make_paper()
    start, first = play(env, [EXPAND])
    tree = env.state.tree
    assert start.info["action_mask"].tolist() == [1, 0, 0, 0, 0]
    assert [node.text for node in tree.nodes[1:]] == ["a", "b", "c", "d"]
    assert (env.grower.engine.batcher.calls, env.grower.reward_model.batcher.calls, tree.generator_calls) == (1, 1, 4)
    assert (env.state.current, tree.nodes[0].children) == (1, [1, 2, 3, 4])
    assert first.rewards == {"searcher": pytest.approx(0.5 - 0.1)}
    assert first.info["action_mask"].tolist() == [1, 1, 0, 0, 0]


def test_moves_make_no_calls():
    env = make_paper()
    results = play(env, [EXPAND, BRANCH, BRANCH, BRANCH, BRANCH, EXPAND, EXPAND, BACKTRACK, EXPAND, BACKTRACK + 1])
    assert env.state.tree.generator_calls == 12
    assert env.state.tree.steps(env.state.current) == ("a",)
    assert env.state.current == 1
    assert results[7].info["action_mask"].tolist() == [0, 1, 0, 1, 1]
    expected = [0.4, -0.2, -0.2, -0.2, -0.2, 0.4, 0.4, -1.0, 0.4, -1.5]
    assert rewards(results) == pytest.approx(expected)


def test_backtrack_goes_k_levels_up_but_not_to_the_root():
    env = make_paper(max_depth=4)
    for k, depth in ((1, 3), (2, 2), (3, 1)):
        play(env, [EXPAND] * 4 + [BACKTRACK + k - 1])
        assert env.state.tree.nodes[env.state.current].depth == depth
        assert env.state.current in env.state.tree.path(env.state.tree.nodes[-1].parent)
    assert play(env, [EXPAND, EXPAND, BACKTRACK + 1])[-1].info["valid_action"] is False
    assert env.action_names == ("EXPAND", "BRANCH", "TERMINATE", "BACKTRACK_1", "BACKTRACK_2", "BACKTRACK_3")
    assert env.parse_action("backtrack_2, not backtrack_3. So: BACKTRACK_2") == BACKTRACK + 1


def test_answers_and_nodes_without_other_actions_may_be_submitted():
    env = make_paper(texts=("\\boxed{6}", "on", "on", "on"))
    _, first, second, end = play(env, [EXPAND, BRANCH, EXPAND])
    assert first.info["action_mask"].tolist() == [0, 1, 1, 0, 0]
    assert len(env.state.tree.nodes[0].children) == 2  # equal siblings are merged
    assert second.info["action_mask"].tolist() == [1, 1, 0, 0, 0]
    assert end.info["action_mask"].tolist() == [0, 1, 1, 1, 0]
    assert play(env, [EXPAND, TERMINATE])[-1].terminated == {"searcher": True}
    lonely = make_paper(max_nodes=2, max_depth=1)
    assert play(lonely, [EXPAND])[-1].info["action_mask"].tolist() == [0, 0, 1]


def test_full_tree_draws_fewer_siblings():
    env = make_paper(max_nodes=7)
    play(env, [EXPAND, EXPAND, BRANCH])
    assert [len(node.children) for node in env.state.tree.nodes[:2]] == [4, 2]
    assert env.action_masks().tolist() == [False, True, False, True, False]


def test_checkers_pass():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make("ReasonTreePaper-v0", **scripted(), reward=half_point)
        check_env(env.unwrapped)
        sb3_check_env(env)
