"""Defaults that follow another choice of the run."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from toys import Toy, ToyConfig

import reason_envs
from agents.algorithms.grpo import GRPO, GRPOConfig
from agents.algorithms.optimizer import OptimizerConfig
from agents.algorithms.ppo import PPOConfig
from agents.config.compose import compose_config
from agents.policies.language import LanguagePolicy
from agents.policies.language_config import LanguagePolicyConfig
from agents.registry import ALGORITHMS, POLICIES
from reason_envs import registration
from reason_envs.rewards import RewardConfig

DEFAULT_RATE = OptimizerConfig().learning_rate


@dataclass
class WriterConfig(LanguagePolicyConfig):
    """Options of a third-party policy that writes text."""


@dataclass
class SlowGRPOConfig(GRPOConfig):
    """Options of a third-party algorithm with another learning rate."""

    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=1e-7))


@pytest.fixture
def parts(monkeypatch):
    """A policy, an algorithm and an environment of another package, within one test."""
    monkeypatch.setattr(POLICIES, "parts", dict(POLICIES.parts))
    monkeypatch.setattr(ALGORITHMS, "parts", dict(ALGORITHMS.parts))
    POLICIES.register("writer", LanguagePolicy, WriterConfig)
    ALGORITHMS.register("slow_grpo", GRPO, SlowGRPOConfig)
    if "recommending" not in registration.ENVIRONMENTS.names():
        recommends = {"algo": "ppo", "model": "theirs", "learning_rate": 2e-4}
        reason_envs.register("Recommending-v0", Toy, ToyConfig, recommends=recommends)


def rate(*overrides):
    return compose_config(overrides).algo.optimizer.learning_rate


def test_ppo_has_other_defaults_for_every_policy_that_writes_text(parts):
    found = {name: compose_config(["algo=ppo", f"policy={name}"]).algo for name in ("language", "writer", "mlp")}
    assert {name: algo.lam for name, algo in found.items()} == {"language": 1.0, "writer": 1.0, "mlp": PPOConfig().lam}
    assert {name: algo.minibatch_size for name, algo in found.items()} == {"language": None, "writer": None, "mlp": 512}
    rates = {name: algo.optimizer.learning_rate for name, algo in found.items()}
    assert rates == {"language": 5e-5, "writer": 5e-5, "mlp": 1e-3}


def test_values_that_are_given_win_over_recommendations():
    config = compose_config(["algo=ppo", "algo.lam=0.9", "algo.minibatch_size=7", "algo.optimizer.learning_rate=1"])
    assert (config.algo.lam, config.algo.minibatch_size, config.algo.optimizer.learning_rate) == (0.9, 7, 1.0)
    assert compose_config(["algo=ppo", "algo.minibatch_size=null", "policy=mlp"]).algo.minibatch_size is None


@pytest.mark.parametrize(
    ("env", "algo", "policy", "model", "learning_rate"),
    [
        ("single_turn_math", "grpo", "language", "embedded", 5e-5),
        ("planner_solver", "grpo", "language", "embedded:planner_solver", 6e-4),
        ("workflow", "grpo", "language", "embedded:workflow", 3e-4),
        ("petting_sokoban", "at_grpo", "language", "embedded:petting", 6e-4),
        ("recommending", "ppo", "language", "theirs", 2e-4),
    ],
)
def test_an_environment_recommends_algorithm_policy_model_and_learning_rate(
    env, algo, policy, model, learning_rate, parts
):
    config = compose_config([f"env={env}"])
    assert (config.algo.name, config.policy.name, config.policy.model) == (algo, policy, model)
    assert config.algo.optimizer.learning_rate == learning_rate


def test_the_recommended_rate_is_for_the_recommended_model_alone(parts):
    assert rate("env=petting_sokoban", "policy.model=embedded") == DEFAULT_RATE
    assert rate("env=petting_sokoban", "policy.model=embedded:petting") == 6e-4
    assert rate("policy.model=embedded:petting") == DEFAULT_RATE
    assert rate("env=recommending", "algo=grpo", "policy.model=embedded") == DEFAULT_RATE


def test_another_model_gets_a_prompt_a_reward_and_a_length_that_suit_it():
    config = compose_config(["policy.model=theirs"])
    assert config.env.system_prompt.endswith(r"put your final answer within \boxed{}.")
    assert (config.env.reward.wrong, config.env.reward.no_answer) == (0.0, 0.0)
    assert config.env.reward.fallbacks == ("last_number",)
    assert (config.policy.max_tokens, config.algo.optimizer.learning_rate) == (512, None)
    assert config.algo.tasks_per_step == 8
    assert compose_config(["policy.model=theirs", "algo=ppo"]).algo.tasks_per_step == 64


def test_values_that_are_given_win_over_those_for_another_model():
    given = ["env.reward.wrong=-2", "env.system_prompt=Solve", "policy.max_tokens=9", "algo.optimizer.learning_rate=3"]
    config = compose_config(["policy.model=theirs", *given])
    assert (config.env.reward.wrong, config.env.reward.no_answer) == (-2.0, 0.0)
    assert (config.env.system_prompt, config.policy.max_tokens) == ("Solve", 9)
    assert config.algo.optimizer.learning_rate == 3


def test_values_for_another_model_leave_another_reward_alone():
    config = compose_config(["policy.model=theirs", "env.reward=random"])
    assert config.env.reward == RewardConfig(name="random")


@pytest.mark.parametrize("model", ["embedded", "embedded:petting"])
def test_embedded_models_keep_the_defaults_of_the_environment(model):
    config = compose_config([f"policy.model={model}"])
    assert config.env.system_prompt is None
    assert config.env.reward == RewardConfig()
    assert config.policy.max_tokens == LanguagePolicyConfig().max_tokens


def test_a_network_learns_faster_than_a_language_model_unless_its_algorithm_says_otherwise(parts):
    assert rate("algo=grpo", "policy=mlp") == 1e-3
    assert rate("algo=slow_grpo", "policy=mlp") == rate("algo=slow_grpo") == 1e-7
