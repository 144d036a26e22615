"""Small language policies, decisions and tasks for the tests of learners."""

from __future__ import annotations

import numpy as np

from agents.policies.language import LanguagePolicy, LanguagePolicyConfig
from agents.trajectory import Choice, Decision
from reason_envs.envs.single_turn_math import SingleTurnMath, SingleTurnMathConfig
from reason_envs.llm.engine import Sampling
from reason_envs.tasks.base import Task
from reason_envs.tasks.task_list import ListTaskSet


def make_policy(model, **options):
    return LanguagePolicy(LanguagePolicyConfig(model=model, device="cpu", **options), seed=0)


def make_decision(prompt=6, response=4, *, seed=0, temperature=1.0, finish_reason="stop", reward=0.0, group="g"):
    """Return a decision with random tokens, as if it had been sampled."""
    generator = np.random.default_rng([prompt, response, seed])
    choice = Choice(
        token_ids=generator.integers(20, 1000, response).tolist(),
        log_probs=None,
        sampling=Sampling(16, temperature),
        finish_reason=finish_reason,
        policy_version=0,
        prompt_ids=generator.integers(20, 1000, prompt).tolist(),
        text="",
    )
    return Decision(f"episode {seed}", "solver", 0, choice, reward, group)


def mixed_decisions(count=7):
    """Return decisions with different lengths and temperatures."""
    return [make_decision(3 + 4 * i % 11, 1 + 5 * i % 8, seed=i, temperature=(1.0, 0.7)[i % 2]) for i in range(count)]


def problems(count):
    return ListTaskSet("toys", "train", [Task(f"toy/{i}", f"Say word {i}.", "") for i in range(count)])


def single_turn(tasks, reward):
    """Return an environment with one response per task, paid by an async function ``(response, task, seed)``."""
    return SingleTurnMath(SingleTurnMathConfig(tasks=tasks, reward=reward))
