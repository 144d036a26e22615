"""PPO: advantages by hand and against Stable-Baselines3, values, early stopping, and learning tests."""

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from language_toys import make_decision
from torch.nn import functional as F
from value_toys import SignalConfig, Signals, ValuePolicy, ValuePolicyConfig

from agents.algorithms.optimizer import OptimizerConfig
from agents.algorithms.ppo import PPO, PPOConfig
from agents.algorithms.sample import SampledTrajectory
from agents.trajectory import Trajectory
from reason_envs.errors import ReasonEnvsError

EXACT = {"normalise_advantages": False, "entropy_coef": 0.0}


def learner(*, environment=None, total_steps=20, seed=0, **options):
    environment = environment or Signals()
    policy = ValuePolicy(ValuePolicyConfig(), seed=seed, environment=environment)
    config = PPOConfig(**{"tasks_per_step": 16, "minibatch_size": 16, **options})
    return PPO(config, policy, environment, environment.tasks, total_steps=total_steps, seed=seed)


def stream(rewards, lengths=None, *, agent="watcher"):
    """Return decisions of one agent; ``credit`` sets their values."""
    lengths = lengths or [1] * len(rewards)
    decisions = [make_decision(2, n, seed=i, reward=r) for i, (r, n) in enumerate(zip(rewards, lengths, strict=True))]
    return [replace(d, agent=agent, turn=i) for i, d in enumerate(decisions)]


def credit(ppo, monkeypatch, episodes, values, beyond=0.0):
    """Credit episodes whose decisions have the given values; ``beyond`` is the value after a truncation."""
    trajectories = [SampledTrajectory.of(episode) for episode in episodes]
    samples = [sample for trajectory in trajectories for sample in trajectory.samples]
    for sample, v in zip(samples, values, strict=True):
        sample.old_values = torch.tensor(v, dtype=torch.float32)
    asked = []

    def evaluate(decisions):
        asked.extend(d.observation for d in decisions)
        return [(torch.zeros(1), torch.full((1,), beyond)) for _ in decisions]

    monkeypatch.setattr(ppo.policy_update, "evaluate", evaluate)
    credited, metrics = ppo.credit(trajectories)
    return credited, metrics, asked


def rows(samples, name):
    return [getattr(s, name).tolist() for s in samples]


# --- credit, by hand


@pytest.mark.parametrize(
    ("gamma", "lam", "returns"),
    [(1.0, 1.0, [6.0, 5.0, 3.0]), (0.5, 1.0, [2.75, 3.5, 3.0]), (1.0, 0.5, [3.625, 4.25, 3.0])],
)
def test_credit_computes_returns_over_a_stream(monkeypatch, gamma, lam, returns):
    ppo = learner(gamma=gamma, lam=lam, **EXACT)
    episode = Trajectory("t", "e", stream([1.0, 2.0, 3.0]), True, False)
    samples, metrics, asked = credit(ppo, monkeypatch, [episode], [[0.5], [1.0], [1.5]])
    assert [s.decision for s in samples] == episode.decisions
    assert rows(samples, "returns") == [[pytest.approx(r)] for r in returns]
    assert rows(samples, "advantage") == [[pytest.approx(r - v)] for r, v in zip(returns, (0.5, 1.0, 1.5), strict=True)]
    assert asked == []
    spread = np.var(np.array(returns) - [0.5, 1, 1.5]) / np.var(returns)
    assert metrics["explained_variance"] == pytest.approx(1 - spread, abs=1e-6)


def test_credit_bootstraps_truncated_streams_only(monkeypatch):
    ppo = learner(lam=1.0, **EXACT)
    ended = Trajectory("t", "a", stream([1.0, 2.0]), True, False)
    cut = Trajectory("t", "b", stream([1.0, 2.0]), False, True, final_observations={"watcher": "what came next"})
    samples, _, asked = credit(ppo, monkeypatch, [ended, cut], [[0.0]] * 4, beyond=10.0)
    assert rows(samples, "returns") == [[3.0], [2.0], [13.0], [12.0]]
    assert asked == ["what came next"]


def test_credit_bootstraps_truncated_agents_only(monkeypatch):
    ppo = learner(lam=1.0, **EXACT)
    decisions = [*stream([1.0], agent="a"), *stream([2.0], agent="b")]
    episode = Trajectory("t", "e", decisions, False, True, final_observations={"b": "next"})
    samples, _, _ = credit(ppo, monkeypatch, [episode], [[0.0]] * 2, beyond=4.0)
    assert {s.decision.agent: s.returns.tolist() for s in samples} == {"a": [1.0], "b": [6.0]}


def test_credit_pays_a_decision_at_its_last_token(monkeypatch):
    ppo = learner(gamma=1.0, lam=0.0, **EXACT)
    episode = Trajectory("t", "e", stream([5.0, 7.0], [2, 3]), True, False)
    samples, _, _ = credit(ppo, monkeypatch, [episode], [[1.0, 2.0], [3.0, 4.0, 5.0]])
    # One-step errors: the next value plus the reward at a decision's last token, minus the value.
    assert rows(samples, "advantage") == [[1.0, 5.0 + 3 - 2], [1.0, 1.0, 7.0 - 5]]


@pytest.mark.parametrize(
    ("level", "advantages", "returns"),
    [
        ("token", [[3.7616975, 6.58155], [1.959, 3.02, 5.6]], [[4.7616975, 8.58155], [4.959, 7.02, 10.6]]),
        # The later values of a turn are not used.
        ("turn", [[10.12, 10.12], [7.6, 7.6, 7.6]], [[11.12], [10.6]]),
    ],
)
def test_credit_of_a_truncated_stream_by_tokens_or_turns(monkeypatch, level, advantages, returns):
    ppo = learner(gamma=0.9, lam=0.5, gae_level=level, **EXACT)
    final = {"watcher": "next"}
    cut = Trajectory("t", "e", stream([5.0, 7.0], [2, 3]), False, True, final_observations=final)
    samples, _, asked = credit(ppo, monkeypatch, [cut], [[1.0, 2.0], [3.0, 4.0, 5.0]], beyond=4.0)
    assert asked == ["next"]
    for name, expected in (("advantage", advantages), ("returns", returns)):
        assert [pytest.approx(row) for row in expected] == rows(samples, name)


def test_credit_by_turns_does_not_discount_within_a_turn(monkeypatch):
    short = Trajectory("t", "a", stream([2.0], [1]), True, False)
    long = Trajectory("t", "b", stream([2.0], [5]), True, False)
    ppo = learner(gamma=0.5, lam=0.5, gae_level="turn", **EXACT)
    samples, _, _ = credit(ppo, monkeypatch, [short, long], [[0.5], [0.5] * 5])
    assert rows(samples, "advantage") == [[1.5], [1.5] * 5]
    assert rows(samples, "returns") == [[2.0], [2.0]]


def test_credit_normalises_over_the_training_step(monkeypatch):
    ppo = learner(entropy_coef=0.0)
    episodes = [Trajectory("t", str(i), stream([float(i)] * (i + 1)), True, False) for i in range(3)]
    samples, metrics, _ = credit(ppo, monkeypatch, episodes, [[0.3]] * 6)
    advantages = torch.cat([s.advantage for s in samples])
    assert float(advantages.mean()) == pytest.approx(0, abs=1e-6)
    assert float(advantages.std(correction=0)) == pytest.approx(1, abs=1e-5)
    raw = torch.cat([s.returns for s in samples]) - 0.3
    assert torch.allclose(advantages * metrics["advantage_std"] + raw.mean(), raw, atol=1e-5)


def test_credit_of_equal_returns_is_zero_without_explained_variance(monkeypatch):
    episodes = [Trajectory("t", str(i), stream([1.0]), True, False) for i in range(3)]
    samples, metrics, _ = credit(learner(), monkeypatch, episodes, [[0.5]] * 3)
    assert rows(samples, "advantage") == [[0.0]] * 3
    assert math.isnan(metrics["explained_variance"])


@pytest.mark.parametrize("reward", [0.1, -1.1, 5.1])
def test_credit_ignores_rounding_errors(monkeypatch, reward):
    """The mean of equal rewards differs from them by rounding; dividing by that spread would amplify it."""
    episodes = [Trajectory("t", str(i), stream([reward]), True, False) for i in range(1000)]
    samples, metrics, _ = credit(learner(), monkeypatch, episodes, [[0.0]] * 1000)
    assert rows(samples, "advantage") == [[0.0]] * 1000
    assert math.isnan(metrics["explained_variance"])
    values = np.random.default_rng(0).normal(size=1000)[:, None]
    samples, metrics, _ = credit(learner(lam=1.0), monkeypatch, episodes, values.tolist())
    assert math.isnan(metrics["explained_variance"])
    assert np.std(rows(samples, "advantage")) == pytest.approx(1, abs=1e-5), "the values differ, and so do advantages"


def test_credit_refuses_a_reward_that_is_not_finite(monkeypatch):
    episode = Trajectory("t", "e", stream([1.0, math.nan]), True, False)
    with pytest.raises(ReasonEnvsError, match=r"rewards\[0, 1\] is nan: every reward must be a finite number"):
        credit(learner(), monkeypatch, [episode], [[0.0]] * 2)


def test_credit_leaves_out_candidates_off_the_path(monkeypatch):
    decisions = stream([1.0, 2.0, 3.0])
    decisions[1].on_path = False
    samples, _, _ = credit(learner(**EXACT), monkeypatch, [Trajectory("t", "e", decisions, True, False)], [[0.0]] * 3)
    assert [s.decision.reward for s in samples] == [1.0, 3.0]


# --- against Stable-Baselines3


@pytest.mark.parametrize("truncated", [False, True])
def test_credit_equals_stable_baselines(monkeypatch, truncated):
    buffers = pytest.importorskip("stable_baselines3.common.buffers")
    from gymnasium.spaces import Box, Discrete

    generator = np.random.default_rng(0)
    rewards, values = generator.normal(size=(2, 7)).astype(np.float32)
    buffer = buffers.RolloutBuffer(7, Box(-1, 1, (1,)), Discrete(2), "cpu", gae_lambda=0.9, gamma=0.97)
    for t in range(7):
        start = np.array([t == 0])
        buffer.add(
            np.zeros((1, 1)),
            np.zeros((1, 1)),
            rewards[t : t + 1],
            start,
            torch.tensor(values[t : t + 1]),
            torch.zeros(1),
        )
    buffer.compute_returns_and_advantage(torch.tensor([0.8]), np.array([not truncated]))
    final = {"watcher": None} if truncated else {}
    episode = Trajectory("t", "e", stream(rewards.tolist()), not truncated, truncated, final_observations=final)
    ppo = learner(gamma=0.97, lam=0.9, **EXACT)
    samples, _, _ = credit(ppo, monkeypatch, [episode], values[:, None].tolist(), beyond=0.8)
    assert np.allclose(np.ravel(rows(samples, "advantage")), buffer.advantages[:, 0], atol=1e-5)
    assert np.allclose(np.ravel(rows(samples, "returns")), buffer.returns[:, 0], atol=1e-5)


def played(ppo, step=0):
    """Return samples of a step whose old log-probabilities and values differ from the current ones."""
    trajectories = [SampledTrajectory.of(trajectory) for trajectory in asyncio.run(ppo.collect(step))]
    ppo.evaluate([sample for trajectory in trajectories for sample in trajectory.samples])
    credited, _ = ppo.credit(trajectories)
    for i, sample in enumerate(credited):
        sample.old_log_probs = sample.old_log_probs + 0.4 * math.sin(3 * i)
        sample.old_values = sample.old_values + 0.5 * math.cos(i)
    return credited


def gradients(ppo, samples):
    seen = []
    original = ppo.optimizer.step

    def step():
        seen.extend(p.grad.clone() for p in ppo.policy.parameters())
        return original()

    ppo.optimizer.step = step
    ppo.optimizer.config.max_grad_norm = 0.0
    metrics = ppo.policy_update.run(samples, step=0)
    return metrics, seen


@pytest.mark.parametrize("clip", [None, 0.2])
def test_loss_equals_stable_baselines(clip):
    """The terms are equal, with its value loss (a mean of squares) at half of our coefficient."""
    options = {
        "minibatch_size": None,
        "epochs_per_batch": 1,
        "value_clip": clip,
        "value_coef": 0.7,
        "entropy_coef": 0.03,
    }
    ppo = learner(**options)
    samples = played(ppo)
    out = ppo.policy.evaluate([s.decision for s in samples], entropy_gradient=True)
    advantages, returns, old, old_values = (
        torch.cat([getattr(s, name) for s in samples])
        for name in ("advantage", "returns", "old_log_probs", "old_values")
    )
    values, ratio = out.values.flatten(), (out.log_probs.flatten() - old).exp()
    policy_loss = -torch.min(advantages * ratio, advantages * ratio.clamp(0.8, 1.2)).mean()
    squares = F.mse_loss(values, returns, reduction="none")
    if clip is not None:  # the pessimistic form of PPO's reference implementation
        near = old_values + (values - old_values).clamp(-clip, clip)
        squares = torch.maximum(squares, F.mse_loss(near, returns, reduction="none"))
    loss = policy_loss + 0.7 * squares.mean() / 2 - 0.03 * out.entropy.mean()
    expected = torch.autograd.grad(loss, list(ppo.policy.parameters()))
    metrics, ours = gradients(ppo, samples)
    assert metrics["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert metrics["clip_frac"] > 0
    assert metrics["value_loss"] == pytest.approx(F.mse_loss(values, returns).item() / 2, abs=1e-5)
    assert metrics["entropy"] == pytest.approx(out.entropy.mean().item(), abs=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, expected, strict=True))


# --- the update


@pytest.mark.parametrize("aggregation", ["token_mean", "seq_mean_token_mean"])
@pytest.mark.parametrize("cut", [{"micro_batch_size": 1}, {"micro_batch_size": 7}, {"micro_batch_tokens": 5}])
def test_micro_batches_give_the_same_update(cut, aggregation):
    options = {"minibatch_size": 24, "epochs_per_batch": 2, "value_clip": 0.2, "aggregation": aggregation}
    whole, expected = gradients(learner(**options), played(learner(**options)))
    parts, ours = gradients(learner(**options, **cut), played(learner(**options)))
    assert len(expected) == 4 * 6
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, expected, strict=True))
    assert parts == pytest.approx(whole, abs=1e-4)


def test_update_trains_values_at_zero_advantages(monkeypatch):
    ppo = learner(entropy_coef=0.0)
    samples = played(ppo)
    for sample in samples:
        sample.advantage = torch.zeros(1)
    _, ours = gradients(ppo, samples)
    assert max(float(g.abs().max()) for g in ours) > 1e-3


def test_target_kl_ends_the_passes_early():
    fast = {"optimizer": OptimizerConfig(learning_rate=0.05), "epochs_per_batch": 10}
    far, near = learner(**fast), learner(target_kl=0.01, **fast)
    whole = far.update(asyncio.run(far.collect(0)), 0)
    stopped = near.update(asyncio.run(near.collect(0)), 0)
    assert (far.optimizer.steps, "early_stop" in whole) == (40, False)
    assert 0 < near.optimizer.steps < 40
    assert stopped["early_stop"] == 1.0
    assert stopped["approx_kl"] < whole["approx_kl"]
    patient = learner(target_kl=100.0)
    assert patient.update(asyncio.run(patient.collect(0)), 0)["early_stop"] == 0.0
    assert patient.optimizer.steps == 16


# --- options and partners


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1.1}, r"^gamma=1\.1 must lie in \[0, 1\]"),
        ({"lam": -0.1}, r"^lam=-0\.1 must lie in \[0, 1\]"),
        ({"value_coef": -1.0}, r"^value_coef=-1\.0 must be at least 0"),
        ({"minibatch_size": 0}, r"^minibatch_size=0 must be at least 1"),
        ({"target_kl": -0.1}, r"^target_kl=-0\.1 must be at least 0"),
        ({"value_learning_rate": -1.0}, r"^value_learning_rate=-1\.0 must be at least 0"),
        ({"gae_level": "turns"}, r"^gae_level='turns' is unknown\. Did you mean 'turn'"),
    ],
)
def test_ppo_refuses_wrong_options(options, message):
    with pytest.raises(ReasonEnvsError, match=message):
        learner(**options)


def test_ppo_refuses_a_discount_that_does_not_fit():
    class Telescoping(Signals):
        discount = 1.0

    learner(environment=Telescoping())
    with pytest.raises(ReasonEnvsError, match=r"algo\.gamma=0\.9 does not fit Telescoping.*Set algo\.gamma=1\.0"):
        learner(environment=Telescoping(), gamma=0.9)


# --- learning


def trained(steps, **environment):
    ppo = learner(environment=Signals(SignalConfig(**environment)), optimizer=OptimizerConfig(learning_rate=1e-2))
    history = []
    for step in range(steps):
        trajectories = asyncio.run(ppo.collect(step))
        metrics = ppo.update(trajectories, step)
        history.append((np.mean([t.stream_return("watcher") for t in trajectories]), metrics["explained_variance"]))
    return history


@pytest.mark.parametrize("truncate", [False, True])
def test_ppo_learns_to_name_the_signal(truncate):
    history = trained(25, truncate=truncate)
    assert history[0][0] < 2.0
    assert np.mean([reward for reward, _ in history[-3:]]) > 3.7


def test_values_learn_to_explain_the_returns():
    history = trained(25)
    assert history[0][1] < 0.3
    assert np.mean([explained for _, explained in history[-5:]]) > 0.7
