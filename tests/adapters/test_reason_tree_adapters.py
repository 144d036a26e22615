"""ReasonTree-v0 with the interfaces of Gymnasium and Stable-Baselines3."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from tree_toys import half_point, scripted

ID = "ReasonTree-v0"


@pytest.fixture
def options():
    return {**scripted(), "reward": half_point}


def test_gymnasium_checker_passes_without_warnings(options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(ID, **options).unwrapped)


def test_sb3_checker_passes_without_warnings(options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3_check_env(gym.make(ID, **options).unwrapped)
        sb3_check_env(gym.make(ID, **options, render_mode="rgb_array"))


def test_action_masks_are_available_in_three_places(options):
    env = gym.make(ID, **options)
    observation, info = env.reset(seed=1)
    for action in (0, 1, 2):
        masks = env.unwrapped.action_masks()
        assert masks.dtype == np.bool_
        assert info["action_mask"].dtype == np.int8
        np.testing.assert_array_equal(masks, env.get_wrapper_attr("action_masks")())
        np.testing.assert_array_equal(masks, info["action_mask"])
        np.testing.assert_array_equal(masks, observation["action_mask"])
        observation, _, _, _, info = env.step(action)


def test_text_environments_have_no_action_masks():
    assert not gym.make("SingleTurnMath-v0", tasks=scripted()["tasks"]).has_wrapper_attr("action_masks")


def test_vector_makes_one_call_of_each_model_per_step(options):
    envs = gym.make_vec(ID, num_envs=64, **options)
    observations, infos = envs.reset(seed=5)
    assert observations in envs.observation_space
    assert infos["action_mask"].shape == (64, 4)
    generator, scores = options["engine"].batcher, options["reward_model"]
    for step in range(1, 6):
        legal = infos["action_mask"]  # EXPAND, or BRANCH if the path has ended
        actions = np.where(legal[:, 0] == 1, 0, 1)
        _, _, _, _, infos = envs.step(actions)
        assert (generator.calls, scores.batcher.calls) == (step, step)
        assert generator.requests == 64 * step
    assert infos["valid_action"].all()


def test_options_reach_the_environment_and_objects_are_shared(options):
    env = gym.make(ID, **options, max_depth=3, temperature=0.6)
    core = env.unwrapped.environment
    assert core.grower.engine is options["engine"]
    assert core.grower.sampling.temperature == 0.6
    assert env.observation_space["depths"].high.max() == 3
    assert gym.make(ID, **scripted()).unwrapped.environment.config.max_depth == 15
