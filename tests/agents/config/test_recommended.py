"""Defaults that follow another choice of the run."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from agents.algorithms.ppo import PPOConfig
from agents.config.compose import compose_config
from agents.policies.language import LanguagePolicy
from agents.policies.language_config import LanguagePolicyConfig
from agents.registry import POLICIES


@dataclass
class WriterConfig(LanguagePolicyConfig):
    """Options of a policy of one's own that writes text."""


@pytest.fixture
def writer(monkeypatch):
    monkeypatch.setattr(POLICIES, "parts", dict(POLICIES.parts))
    POLICIES.register("writer", LanguagePolicy, WriterConfig)


def test_ppo_suits_whatever_policy_writes_text(writer):
    found = {
        name: compose_config(["env=single_turn_math", "algo=ppo", f"policy={name}"]).algo
        for name in ("language", "writer", "mlp")
    }
    lams = {name: algo.lam for name, algo in found.items()}
    assert lams == {"language": 1.0, "writer": 1.0, "mlp": PPOConfig().lam}
    rates = {name: algo.optimizer.learning_rate for name, algo in found.items()}
    assert rates == {"language": 5e-5, "writer": 5e-5, "mlp": 1e-3}


@pytest.mark.parametrize(
    ("env", "algo", "policy", "model", "rate"),
    [
        ("single_turn_math", "grpo", "language", "embedded", 5e-5),
        ("planner_solver", "grpo", "language", "embedded:planner_solver", 6e-4),
        ("workflow", "grpo", "language", "embedded:workflow", 3e-4),
        ("petting_sokoban", "at_grpo", "language", "embedded:petting", 6e-4),
    ],
)
def test_an_environment_brings_its_learner_its_model_and_the_rate_that_suits_it(env, algo, policy, model, rate):
    config = compose_config([f"env={env}"])
    assert (config.algo.name, config.policy.name, config.policy.model) == (algo, policy, model)
    assert config.algo.optimizer.learning_rate == rate


def test_another_model_does_not_take_that_rate():
    config = compose_config(["env=petting_sokoban", "policy.model=embedded"])
    assert config.algo.optimizer.learning_rate == 5e-5
