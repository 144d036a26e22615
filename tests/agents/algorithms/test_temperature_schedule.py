"""The sampling temperature changes during training, and every decision records it."""

import asyncio

import pytest
import torch
from language_toys import make_policy, problems, single_turn

from agents.algorithms.config import TemperatureSchedule
from agents.algorithms.grpo import GRPO, GRPOConfig
from reason_envs.core import derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engines.transformers.engine import TransformersEngine


async def coin(response, task, seed):
    return float(derive_seed(seed, "coin") % 2)


@pytest.fixture
def learner(tiny_model):
    policy = make_policy(tiny_model, max_tokens=6, temperature=0.9)
    policy.engine = TransformersEngine(model=tiny_model, device="cpu")
    schedule = TemperatureSchedule(enabled=True, initial=1.5, final=0.5, warmup_steps=10)
    config = GRPOConfig(tasks_per_step=2, samples_per_task=3, temperature_schedule=schedule)
    tasks = problems(4)
    return GRPO(config, policy, single_turn(tasks, coin), tasks, total_steps=20, seed=0)


def test_temperature_schedule_has_known_values():
    schedule = TemperatureSchedule(enabled=True, initial=0.5, final=0.15, warmup_steps=150)
    assert [schedule.at(step) for step in (0, 75, 150, 10_000)] == pytest.approx([0.5, 0.325, 0.15, 0.15])


@pytest.mark.parametrize(("step", "temperature"), [(0, 1.5), (5, 1.0), (10, 0.5), (19, 0.5)])
def test_decisions_record_the_scheduled_temperature(learner, step, temperature):
    trajectories = asyncio.run(learner.collect(step))
    decisions = [d for t in trajectories for d in t.decisions]
    assert [d.choice.sampling.temperature for d in decisions] == pytest.approx([temperature] * len(decisions))
    with torch.no_grad():
        evaluation = learner.policy.evaluate(decisions)
    for row, decision in zip(evaluation.log_probs, decisions, strict=True):
        ours = row[: len(decision.choice.token_ids)].tolist()
        assert ours == pytest.approx(decision.choice.log_probs, abs=1e-4)
    assert learner.policy.sampling.temperature == 0.9, "evaluations keep the policy's own"


def test_disabled_schedule_uses_the_policys_temperature(learner):
    learner.config.temperature_schedule = TemperatureSchedule()
    (first, *_) = asyncio.run(learner.collect(3))
    assert first.decisions[0].choice.sampling.temperature == 0.9


@pytest.mark.parametrize("wrong", [{"initial": 0}, {"final": -1}, {"warmup_steps": 0}])
def test_temperature_schedule_refuses_wrong_values(wrong):
    with pytest.raises(ReasonEnvsError, match=f"^{next(iter(wrong))}="):
        TemperatureSchedule(**wrong)
