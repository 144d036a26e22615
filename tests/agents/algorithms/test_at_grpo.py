"""AT-GRPO: advantages of single decisions, equality with GRPO at one turn, and short learning tests."""

import asyncio
import statistics

import pytest
import torch
from language_toys import make_policy, problems, single_turn
from role_toys import Relay, RelayConfig, Script, spelled_out
from run_toys import assert_same_run, make_run, rows, train

from agents.algorithms.at_grpo import ATGRPO, ATGRPOConfig
from agents.algorithms.grpo import GRPO, GRPOConfig
from agents.algorithms.optimizer import OptimizerConfig
from agents.algorithms.sample import SampledTrajectory
from agents.tracking.episode_metrics import describe
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engines.transformers.engine import TransformersEngine


def learner(policy, environment, *, tasks=2, total_steps=10, **options):
    config = ATGRPOConfig(**{"tasks_per_step": 2, **options})
    return ATGRPO(config, policy, environment, problems(tasks), total_steps=total_steps, seed=0)


def relay(**options):
    return Relay(RelayConfig(tasks=problems(4), **options))


def credit(learner, trajectories):
    """Return the decisions to train on, their advantages and the metrics."""
    samples, metrics = learner.credit([SampledTrajectory.of(trajectory) for trajectory in trajectories])
    return [s.decision for s in samples], [s.advantage for s in samples], metrics


@pytest.fixture
def policy(tiny_model):
    policy = make_policy(tiny_model, max_tokens=3)
    policy.engine = TransformersEngine(model=tiny_model, device="cpu")
    return policy


# --- advantages by hand

TEAM = {"scout": (1.0, 0.0, 0.0, 0.0), "digger": (0.0, 0.0, 2.0, 2.0)}
LOCAL = {"scout": (0.0, 0.0, 1.0, 0.0), "digger": (4.0, 4.0, 0.0, 0.0)}
"""Team and local rewards of candidate k of each role."""


def by_hand(agent, turn, k):
    return f"{TEAM[agent][k]} {LOCAL[agent][k]}"


HALF = 3**0.5 / 2


@pytest.mark.parametrize(
    ("alpha", "scout", "digger"),
    [
        (0.0, [-0.5, -0.5, 1.5, -0.5], [HALF, HALF, -HALF, -HALF]),
        (1.0, [HALF, -HALF, HALF, -HALF], [HALF, HALF, -HALF, -HALF]),
        # scout: 2, 0, 1, 0 (mean 0.75, deviation sqrt(2.75 / 3)); digger: all 4, so there is no signal
        (2.0, [1.30558, -0.78335, 0.26112, -0.78335], [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_credit_of_hand_made_rewards(policy, alpha, scout, digger):
    environment = relay(judge=spelled_out, alpha=alpha)
    at_grpo = learner(policy, environment, scale="std")
    at_grpo.policy = Script(by_hand)
    decisions, advantages, metrics = credit(at_grpo, asyncio.run(at_grpo.collect(0)))
    assert len(decisions) == 2 * 2 * 2 * 4
    for start in range(0, len(decisions), 4):
        expected = {"scout": scout, "digger": digger}[decisions[start].agent]
        assert advantages[start : start + 4] == pytest.approx(expected, abs=1e-4)
    flat = 1.0 if alpha == 2.0 else 0.0
    shares = {"frac_zero_std": flat / 2, "frac_zero_std/scout": 0.0, "frac_zero_std/digger": flat}
    assert metrics == {**shares, **{name.replace("zero_std", "same_action"): 0.0 for name in shares}}


def test_credit_scales_by_the_rewards_of_the_step_by_default(policy):
    """Rewards of candidates differ by up to 2 at turn 1, and by up to 0.02 at turn 2."""
    at_grpo = learner(policy, relay(judge=spelled_out))
    at_grpo.policy = Script(lambda agent, turn, k: f"{k % 3 * (1.0 if turn == 1 else 0.01)} 0")
    decisions, advantages, _ = credit(at_grpo, asyncio.run(at_grpo.collect(0)))
    for role in ("scout", "digger"):
        mine = [i for i, decision in enumerate(decisions) if decision.agent == role]
        centred = [r - 0.75 for r in (0.0, 1.0, 2.0, 0.0)]
        spread = statistics.stdev(decisions[i].reward for i in mine)
        expected = {turn: [c * scale / spread for c in centred] for turn, scale in ((1, 1.0), (2, 0.01))}
        for start in range(0, len(mine), 4):
            turn = 1 if decisions[mine[start + 2]].reward == 2.0 else 2
            assert [advantages[i] for i in mine[start : start + 4]] == pytest.approx(expected[turn], abs=1e-4)


def test_credit_counts_groups_with_equal_actions(policy):
    at_grpo = learner(policy, relay(judge=spelled_out, max_turns=1))
    at_grpo.policy = Script(lambda agent, turn, k: "1 0" if agent == "scout" else f"{k // 3} 0")
    _, _, metrics = credit(at_grpo, asyncio.run(at_grpo.collect(0)))
    shares = [metrics[f"frac_same_action{suffix}"] for suffix in ("", "/scout", "/digger")]
    assert shares == [0.5, 1.0, 0.0]


def test_update_trains_on_candidates_off_the_path(policy, monkeypatch):
    at_grpo = learner(policy, relay())
    seen = []
    monkeypatch.setattr(at_grpo.policy_update, "run", lambda samples, step: seen.extend(samples) or {})
    trajectories = asyncio.run(at_grpo.collect(0))
    at_grpo.update(trajectories, 0)
    assert [s.decision for s in seen] == [d for t in trajectories for d in t.decisions]
    assert {s.decision.on_path for s in seen if s.advantage} == {True, False}


def test_credit_ignores_rewards_of_later_turns(policy):
    """A decision's return is the reward of that step, without the rest of the episode."""
    script = Script(lambda agent, turn, k: f"{100 * turn} {k}")
    at_grpo = learner(policy, relay(judge=spelled_out), scale="std")
    at_grpo.policy = script
    _, advantages, _ = credit(at_grpo, asyncio.run(at_grpo.collect(0)))
    assert len(set(advantages[::4])) == 1


def test_metrics_of_roles_have_known_values(policy):
    at_grpo = learner(policy, relay(judge=spelled_out))
    at_grpo.policy = Script(by_hand)
    metrics = describe(asyncio.run(at_grpo.collect(0)))
    assert metrics["reward"] == 2 * 1.0 + 2 * 4.0
    assert (metrics["reward/scout"], metrics["reward/digger"]) == (2.0, 8.0)
    assert (metrics["candidate_reward/scout"], metrics["candidate_reward/digger"]) == (0.5, 3.0)
    assert metrics["candidate_reward"] == 1.75
    assert metrics["episode_length"] == 4.0
    assert metrics["accuracy"] == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"samples_per_task": 1}, "samples_per_task=1"), ({"select": "worst"}, "select='worst' is unknown.*best")],
)
def test_at_grpo_refuses_wrong_options(policy, options, message):
    with pytest.raises(ReasonEnvsError, match=message):
        learner(policy, relay(), **options)


# --- one turn, one agent: GRPO


async def length(response, task):
    return float(len(response))


def test_at_grpo_equals_grpo_at_one_turn(tiny_model):
    """Choices, advantages, metrics and weights are equal bit for bit."""

    def run(algorithm, config):
        policy = make_policy(tiny_model, max_tokens=5)
        policy.engine = TransformersEngine(model=tiny_model, device="cpu")
        options = {
            "tasks_per_step": 3,
            "samples_per_task": 4,
            "scale": "batch",
            "optimizer": OptimizerConfig(learning_rate=1e-3),
        }
        environment = single_turn(problems(4), length)
        learner = algorithm(config(**options), policy, environment, problems(4), total_steps=2, seed=0)
        found = []
        for step in range(2):
            trajectories = asyncio.run(learner.collect(step))
            decisions, advantages, _ = credit(learner, trajectories)
            metrics = learner.update(trajectories, step)
            found.append(([(d.choice.token_ids, d.reward) for d in decisions], advantages, metrics))
        return found, policy.state_tensors()

    (grpo, ours), (at_grpo, theirs) = run(GRPO, GRPOConfig), run(ATGRPO, ATGRPOConfig)
    assert grpo == at_grpo
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# --- whole runs


def test_at_grpo_run_resumes_exactly(tiny_model, tmp_path, capsys):
    options = ("algo=at_grpo", "algo.select=sample", "eval_every=0")
    train(make_run(tiny_model, tmp_path / "whole", *options))
    step_1, *rest = capsys.readouterr().out.split("In training, each turn continues from a selected candidate")
    assert (step_1.splitlines()[-1].startswith("step 1/"), len(rest)) == (True, 2)  # below the step, and the table
    train(make_run(tiny_model, tmp_path / "run", *options, "steps=2"))
    train(make_run(tiny_model, tmp_path / "run", *options, resuming=True))
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    assert all(row["candidate_reward"] is not None for row in rows(tmp_path / "run"))


# --- learning


def share_good(trajectories):
    """Return the share of each role's candidates with a reward."""
    rewards = {"scout": [], "digger": []}
    for trajectory in trajectories:
        for decision in trajectory.decisions:
            rewards[decision.agent].append(decision.reward)
    return {agent: sum(found) / len(found) for agent, found in rewards.items()}


def test_at_grpo_teaches_two_roles_their_own_rewards(policy):
    """One model plays both roles by the prompt: the scout must start in lower case, the digger must not."""
    optimizer = OptimizerConfig(learning_rate=3e-3)
    at_grpo = learner(policy, relay(), tasks=4, total_steps=60, tasks_per_step=4, optimizer=optimizer)
    shares = []
    for step in range(60):
        trajectories = asyncio.run(at_grpo.collect(step))
        shares.append(share_good(trajectories))
        at_grpo.update(trajectories, step)
        policy.engine.load_weights(policy.export_weights(), step + 1)
    assert all(share < 0.8 for share in shares[0].values())
    assert all(share > 0.9 for share in shares[-1].values())
