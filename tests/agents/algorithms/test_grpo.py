"""GRPO: groups, credit, and short tests that it learns the rewarded behaviour and nothing else."""

import asyncio
import statistics
from dataclasses import replace

import pytest
import torch
from language_toys import make_decision, make_policy, problems, single_turn

from agents.algorithms.grpo import GRPO, GRPOConfig
from agents.algorithms.optimizer import OptimizerConfig
from agents.algorithms.sample import Sample, SampledTrajectory
from agents.trajectory import Trajectory
from reason_envs.core import derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engines.transformers.engine import TransformersEngine


async def nothing(response, task):
    return 0.0


def learner(policy, *, reward=nothing, tasks=4, total_steps=10, seed=0, **options):
    config = GRPOConfig(**{"tasks_per_step": 4, "samples_per_task": 4, **options})
    task_set = problems(tasks)
    return GRPO(config, policy, single_turn(task_set, reward), task_set, total_steps=total_steps, seed=seed)


@pytest.fixture
def policy(tiny_model):
    return make_policy(tiny_model, max_tokens=5)


def trajectory(*rewards, group="g", task="t", agent="solver"):
    """Return an episode with one decision per reward."""
    made = [make_decision(4, 3, seed=i, reward=r, group=group) for i, r in enumerate(rewards)]
    decisions = [replace(decision, agent=agent) for decision in made]
    return Trajectory(task, "e", decisions, True, False)


def credit(learner, episodes):
    """Return the decisions to train on, their advantages and the metrics."""
    samples, metrics = learner.credit([SampledTrajectory.of(episode) for episode in episodes])
    return [s.decision for s in samples], [s.advantage for s in samples], metrics


# --- credit


def test_credit_compares_streams_by_their_returns(policy):
    episodes = [trajectory(1.0, group="a"), trajectory(0.0, group="a"), trajectory(3.0, group="b")]
    episodes.append(trajectory(1.0, 4.0, group="b"))
    decisions, advantages, metrics = credit(learner(policy, scale="none"), episodes)
    assert decisions == [d for t in episodes for d in t.decisions]
    assert advantages == [0.5, -0.5, -1.0, 1.0, 1.0]
    assert metrics == {"frac_zero_std": 0.0, "frac_same_action": 0.5}, "both episodes of a drew the same"


def test_credit_applies_scale_and_baseline(policy):
    episodes = [trajectory(r) for r in (1.0, 0.0, 0.0, 0.0)]
    assert credit(learner(policy), episodes)[1] == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-4)
    rloo = credit(learner(policy, scale="none", leave_one_out=True), episodes)[1]
    assert rloo == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3])


def test_credit_scales_each_agent_by_its_own_batch(policy):
    rewards = {"rich": (100.0, 0.0, 50.0, 50.5), "poor": (1.0, 0.0, 0.5, 0.505)}
    episodes = [
        trajectory(reward, group=f"{agent} {i // 2}", agent=agent)
        for agent, earned in rewards.items()
        for i, reward in enumerate(earned)
    ]
    advantages = credit(learner(policy, scale="batch"), episodes)[1]
    assert advantages[:4] == pytest.approx(advantages[4:], abs=1e-4)
    assert advantages[0] == pytest.approx(50 / statistics.stdev(rewards["rich"]), abs=1e-4)
    assert advantages[3] / advantages[0] == pytest.approx(0.005), "hardly different rewards weigh little"


def test_credit_of_equal_returns_is_zero_and_counted(policy):
    episodes = [trajectory(1.0, group="a"), trajectory(1.0, group="a"), trajectory(0.0, group="b")]
    _, advantages, metrics = credit(learner(policy), [*episodes, trajectory(1.0, group="b")])
    assert advantages[:2] == [0.0, 0.0]
    assert metrics["frac_zero_std"] == 0.5


def test_credit_subtracts_the_overlong_penalty(policy):
    episodes = [trajectory(1.0), trajectory(1.0)]
    episodes[1].decisions[0] = make_decision(4, 5, reward=1.0)
    advantages = credit(learner(policy, scale="none", overlong_cache=4), episodes)[1]
    # max_tokens 5, cache 4: lengths 3 and 5 lose 0.5 and 1.
    assert advantages == [0.25, -0.25]


def test_kl_penalty_lowers_the_reward(policy, monkeypatch):
    grpo = learner(policy, kl_reward_coef=0.5, scale="none")
    episodes = [trajectory(1.0), trajectory(0.0)]
    found = iter([[(torch.full((3,), -0.1), None)] * 2, [(torch.zeros(3), None)] * 2])
    monkeypatch.setattr(grpo.policy_update, "evaluate", lambda decisions, size: next(found))
    seen = []
    monkeypatch.setattr(grpo.policy_update, "run", lambda samples, step: seen.extend(samples) or {})
    metrics = grpo.update(episodes, step=0)
    assert [sample.reward for sample in seen] == pytest.approx([1.15, 0.15])
    assert [sample.decision.reward for sample in seen] == [1.0, 0.0], "the trajectories stay as they were played"
    assert [sample.advantage for sample in seen] == pytest.approx([0.5, -0.5])
    assert metrics["kl_in_reward"] == pytest.approx(-0.3)


def test_reference_is_the_policy_before_training(policy):
    grpo = learner(policy, kl_coef=0.1, epochs_per_batch=2, optimizer=OptimizerConfig(learning_rate=1e-4))
    episodes = [trajectory(1.0), trajectory(0.0)]
    episodes[1].decisions[0] = make_decision(4, 5, reward=0.0)  # equal responses would cancel
    metrics = grpo.update(episodes, step=0)
    first = grpo.update(episodes, step=1)
    assert first["kl"] > metrics["kl"] > 0


def test_passes_without_gradients_have_separate_sizes(policy, monkeypatch):
    sizes = {"log_prob_micro_batch_size": 3, "reference_micro_batch_size": 1, "micro_batch_size": 4}
    grpo = learner(policy, kl_coef=0.1, epochs_per_batch=2, **sizes)
    seen = []
    evaluate = policy.evaluate
    monkeypatch.setattr(policy, "evaluate", lambda d, **more: seen.append(len(d)) or evaluate(d, **more))
    grpo.evaluate([Sample(make_decision(seed=i)) for i in range(6)])
    assert seen == [3, 3, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("options", "fixed"),
    [
        ({}, False),
        ({"epochs_per_batch": 2}, True),
        ({"minibatch_size": 8}, True),
        ({"minibatch_size": 16}, True),  # 20 decisions of episodes with several turns: more than one mini-batch
        ({"kl_reward_coef": 0.1}, True),
    ],
)
def test_update_keeps_old_log_probs_if_the_weights_change(policy, monkeypatch, options, fixed):
    grpo = learner(policy, **options)
    seen = []
    monkeypatch.setattr(grpo.policy_update, "run", lambda samples, step: seen.extend(samples) or {})
    grpo.update([trajectory(*range(5)) for _ in range(4)], step=0)
    assert len(seen) == 20
    assert all((sample.old_log_probs is not None) == fixed for sample in seen)


def test_schedule_follows_training_steps(policy):
    optimizer = OptimizerConfig(learning_rate=1e-3, schedule="linear")
    grpo = learner(policy, minibatch_size=1, epochs_per_batch=2, optimizer=optimizer, total_steps=4)
    rates = [grpo.update([trajectory(1.0), trajectory(0.0)], step)["learning_rate"] for step in range(4)]
    assert rates == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])
    assert grpo.optimizer.steps == 16


# --- collecting


def test_collect_groups_a_repeated_task_separately(tiny_model, policy):
    policy.engine = TransformersEngine(model=tiny_model, device="cpu")
    grpo = learner(policy, tasks=2)
    trajectories = asyncio.run(grpo.collect(0))
    groups = [t.decisions[0].group_id for t in trajectories]
    assert len(trajectories) == 16
    assert sorted(groups.count(g) for g in set(groups)) == [4, 4, 4, 4]
    assert len({t.task_id for t in trajectories}) == 2


def test_collect_depends_on_seed_step_and_weights_only(tiny_model, policy):
    policy.engine = TransformersEngine(model=tiny_model, device="cpu")

    def texts(seed, step):
        return [t.decisions[0].choice.text for t in asyncio.run(learner(policy, seed=seed).collect(step))]

    assert texts(0, 3) == texts(0, 3)
    assert texts(0, 3) != texts(0, 4)
    assert texts(0, 3) != texts(1, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples_per_task": 1}, "samples_per_task=1"),
        ({"tasks_per_step": 0}, "tasks_per_step=0"),
        ({"epochs_per_batch": 0}, "epochs_per_batch=0"),
        ({"minibatch_size": 0}, "minibatch_size=0 must be at least 1"),
        ({"log_prob_micro_batch_size": 0}, "log_prob_micro_batch_size=0 must be at least 1"),
        ({"reference_micro_batch_size": 0}, "reference_micro_batch_size=0 must be at least 1"),
        ({"scale": "var"}, "scale='var' is unknown"),
        ({"importance": "seq"}, "importance='seq' is unknown"),
        ({"aggregation": "mean"}, "aggregation='mean' is unknown"),
        ({"kl_kind": "k4"}, "kl_kind='k4' is unknown"),
        ({"correction": "on"}, "correction='on' is unknown"),
        ({"aggregation": "horizon"}, "horizon=None"),
        ({"horizon": 5}, "horizon=5"),
        ({"overlong_cache": 6}, "cache=6"),
        ({"clip_low": 1.5}, r"clip_low=1\.5"),
        ({"dual_clip": 0.9}, r"dual_clip=0\.9"),
    ],
)
def test_grpo_refuses_wrong_options(policy, options, message):
    with pytest.raises(ReasonEnvsError, match=message):
        learner(policy, **options)


# --- learning


async def begins_with_a_lower_case_letter(response, task):
    return float(response[:1].islower())


async def coin(response, task, seed):
    return float(derive_seed(seed, "coin") % 2)


def share_after(tiny_model, reward, steps=30):
    """Train briefly; return the share of responses that start with a lower-case letter, before and after."""
    policy = make_policy(tiny_model, max_tokens=3)
    policy.engine = TransformersEngine(model=tiny_model, device="cpu")
    optimizer = OptimizerConfig(learning_rate=3e-3)
    grpo = learner(policy, reward=reward, tasks_per_step=6, samples_per_task=8, total_steps=steps, optimizer=optimizer)
    shares = []
    for step in range(steps):
        trajectories = asyncio.run(grpo.collect(step))
        shares.append(sum(d.choice.text[:1].islower() for t in trajectories for d in t.decisions) / 48)
        grpo.update(trajectories, step)
        policy.engine.load_weights(policy.export_weights(), step + 1)
    return sum(shares[:3]) / 3, sum(shares[-5:]) / 5


def test_grpo_learns_the_rewarded_behaviour(tiny_model):
    before, after = share_after(tiny_model, begins_with_a_lower_case_letter)
    assert before < 0.5
    assert after > 0.9


def test_grpo_learns_nothing_from_random_rewards(tiny_model):
    before, after = share_after(tiny_model, coin)
    assert abs(after - before) < 0.25
