"""The Stable-Baselines3 adapter: one call of each model per step, ends of episodes, and masks."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor
from toys import Toy
from tree_toys import BACKTRACK, BRANCH, EXPAND, TERMINATE, half_point, make_tree, play, scripted

from reason_envs.adapters.sb3 import ReasonVecEnv
from reason_envs.errors import ReasonEnvsError


def vector(count, **options):
    return ReasonVecEnv(make_tree(**options), count)


def actions_of(masks):
    """EXPAND if it is legal, else TERMINATE, else BACKTRACK."""
    return np.where(masks[:, EXPAND], EXPAND, np.where(masks[:, TERMINATE], TERMINATE, BACKTRACK))


def test_vec_env_makes_one_call_of_each_model_per_step():
    envs = vector(64, script="on\n")
    observations = envs.reset()
    assert observations["nodes"].shape == (64, *envs.observation_space["nodes"].shape)
    first = envs.environments[0]
    for step in range(1, 4):
        envs.step(np.full(64, EXPAND))
        assert (first.grower.engine.batcher.calls, first.grower.reward_model.batcher.calls) == (step, step)
    assert first.grower.engine.batcher.requests == 192


def test_vec_env_plays_like_single_environments():
    envs = vector(3)
    envs.seed(7)
    envs.reset()
    actions = [EXPAND, BRANCH, EXPAND, 9, BACKTRACK]
    paid = np.stack([envs.step(np.full(3, action))[1] for action in actions])
    for slot in range(3):
        alone = [r.rewards["searcher"] for r in play(make_tree(), actions, seed=7 + slot)[1:]]
        np.testing.assert_allclose(paid[: len(alone), slot], alone, rtol=1e-6)


def test_vec_env_restarts_ended_episodes():
    envs = vector(2, script="\\boxed{6}\n")
    envs.reset()
    envs.step(np.array([EXPAND, EXPAND]))
    observations, rewards, dones, infos = envs.step(np.array([TERMINATE, BACKTRACK]))
    assert dones.tolist() == [True, False]
    assert rewards[0] == pytest.approx(0.5)
    assert rewards.dtype == np.float32
    assert (infos[0]["TimeLimit.truncated"], infos[1]["TimeLimit.truncated"]) == (False, False)
    assert "correct" in infos[0]
    assert infos[0]["terminal_observation"]["node_mask"].sum() == 2
    assert "terminal_observation" not in infos[1]
    assert observations["node_mask"].sum(axis=1).tolist() == [1, 2]
    assert envs.reset_infos[0]["action_mask"].tolist() == [1, 0, 0, 0]


def test_truncated_episodes_are_time_limits():
    envs = vector(2, script="on\n", max_steps=2)
    envs.reset()
    envs.step(np.array([EXPAND, EXPAND]))
    _, _, dones, infos = envs.step(np.array([EXPAND, BACKTRACK]))
    assert dones.all()
    assert [info["TimeLimit.truncated"] for info in infos] == [True, True]
    assert [info["terminal_observation"]["current"].item() for info in infos] == [2, 0]


def test_masks_attributes_and_methods_are_available():
    envs = vector(3)
    envs.reset()
    assert is_masking_supported(envs)
    assert get_action_masks(envs).tolist() == [[True, False, False, False]] * 3
    assert envs.env_method("action_masks", indices=[1])[0].dtype == np.bool_
    assert envs.get_attr("action_names", indices=0) == [("EXPAND", "BRANCH", "BACKTRACK", "TERMINATE")]
    envs.set_attr("render_mode", "ansi", indices=2)
    assert envs.get_attr("render_mode") == [None, None, "ansi"]
    assert envs.has_attr("task")
    assert not envs.has_attr("tusk")
    assert envs.env_is_wrapped(gym.Wrapper) == [False] * 3


def test_options_fix_the_next_problem():
    envs = vector(2)
    envs.set_options({"task": {"question": "Mine?", "answer": "6"}})
    envs.reset()
    assert [task.question for task in envs.get_attr("task")] == ["Mine?"] * 2
    envs.reset()
    assert "Mine?" not in [task.question for task in envs.get_attr("task")]
    envs.set_options({"tsk": 1})
    with pytest.raises(ReasonEnvsError, match=r"Unknown option of reset 'tsk'. Did you mean 'task'?"):
        envs.reset()


def test_images_are_tiled():
    environment = make_tree(script="on\n")
    environment.render_mode = "rgb_array"
    envs = ReasonVecEnv(environment, 2)
    envs.reset()
    assert envs.render().dtype == np.uint8


@pytest.mark.parametrize("algorithm", [PPO, MaskablePPO])
def test_both_learners_train_without_a_warning(algorithm):
    options = {**scripted(), "reward": half_point, "max_depth": 3, "max_nodes": 8, "max_steps": 5}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = VecMonitor(vector(4, **options))
        model = algorithm("MultiInputPolicy", envs, n_steps=8, batch_size=16, n_epochs=1, gamma=1.0, device="cpu")
        model.learn(64)
    assert model.num_timesteps == 64
    assert len(model.ep_info_buffer) > 4


@pytest.mark.parametrize("steps", [1, 6, 7, 23])
def test_replay_returns_to_the_same_states(steps):
    envs, again = (vector(5, max_steps=4) for _ in range(2))
    draw = np.random.default_rng(steps)
    envs.seed(3)
    envs.reset()
    played = [[[]] for _ in range(5)]
    for _ in range(steps):
        actions = draw.integers(0, 4, 5)
        _, _, dones, _ = envs.step(actions)
        for episodes, action, done in zip(played, actions, dones, strict=True):
            episodes[-1].append(int(action))
            episodes += [[]] if done else []
    again.seed(3)
    observations = again.replay([(len(episodes) - 1, episodes[-1]) for episodes in played])
    for further in range(12):
        actions = draw.integers(0, 4, 5)
        expected, found = envs.step(actions), again.step(actions)
        assert [info["task_id"] for info in found[3]] == [info["task_id"] for info in expected[3]]
        for one, other in zip(found[1:3], expected[1:3], strict=True):
            np.testing.assert_array_equal(one, other)
        for name in observations:
            np.testing.assert_array_equal(found[0][name], expected[0][name], err_msg=f"{further} {name}")


def test_text_spaces_are_rejected():
    with pytest.raises(ReasonEnvsError, match="does not support UnicodeText"):
        ReasonVecEnv(Toy(), 2)
