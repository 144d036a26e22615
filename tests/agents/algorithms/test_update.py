"""The update: gradients do not depend on the size of micro-batches, and options have their effect."""

import math
import pickle
from types import SimpleNamespace

import pytest
import torch
from language_toys import make_decision, make_policy, mixed_decisions

from agents.algorithms.config import LearnerConfig
from agents.algorithms.learner import Learner
from agents.algorithms.optimizer import Optimizer, OptimizerConfig
from agents.algorithms.sample import Sample
from agents.algorithms.update import PolicyUpdate
from agents.losses import AGGREGATIONS
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import Capability


class GradientRecorder(Optimizer):
    """Records the gradients of every step."""

    def step(self):
        self.gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in self._parameters]
        return super().step()


@pytest.fixture
def policy(tiny_model):
    return make_policy(tiny_model)


def noise(seed, length, scale=0.2):
    return scale * torch.randn(length, generator=torch.Generator().manual_seed(seed))


def log_probs(policy, decisions):
    with torch.no_grad():
        out = policy.evaluate(decisions).log_probs
    return [row[: len(d.choice.token_ids)] for row, d in zip(out, decisions, strict=True)]


def off_policy_samples(policy, *, reference=True):
    """Return samples whose old, reference and engine log-probabilities all differ from the current ones."""
    decisions = mixed_decisions()
    samples = []
    for i, (decision, now) in enumerate(zip(decisions, log_probs(policy, decisions), strict=True)):
        object.__setattr__(decision.choice, "log_probs", (now + noise(100 + i, len(now))).tolist())
        old, ref = now + noise(i, len(now)), now + noise(50 + i, len(now))
        samples.append(Sample(decision, (1.0, -0.5, 0.0)[i % 3], old, ref if reference else None))
    return samples


def loss(inputs, config):
    """Compute the default loss of learners."""
    return Learner.loss(None, inputs, config)


def make_update(policy, *, skips_zero_advantages=True, **options):
    config = LearnerConfig(**{"optimizer": OptimizerConfig(learning_rate=0.0, max_grad_norm=0.0), **options})
    optimizer = GradientRecorder(config.optimizer, policy.parameters(), 10, scale_loss=policy.scales_loss)
    return PolicyUpdate(config, policy, optimizer, loss, seed=0, skips_zero_advantages=skips_zero_advantages)


def run(policy, samples, **options):
    update = make_update(policy, **options)
    metrics = update.run(samples, step=0)
    return metrics, update.optimizer.gradients


def assert_close(left, right, atol=2e-5):
    assert any(g.abs().max() > 1e-3 for g in left)
    for a, b in zip(left, right, strict=True):
        assert torch.allclose(a, b, atol=atol), (a - b).abs().max()


# --- cutting


@pytest.mark.parametrize("importance", ["token", "sequence"])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("cut", [{"micro_batch_size": 1}, {"micro_batch_size": 3}, {"micro_batch_tokens": 24}])
def test_micro_batches_give_the_same_update(policy, aggregation, importance, cut):
    options = {
        "aggregation": aggregation,
        "importance": importance,
        "horizon": 9 if aggregation == "horizon" else None,
        "kl_coef": 0.3,
        "entropy_coef": 0.2,
        "correction": importance,
        "dual_clip": 3.0,
    }
    samples = off_policy_samples(policy)
    whole, expected = run(policy, samples, **options)
    parts, gradients = run(policy, samples, **options, **cut)
    assert_close(gradients, expected)
    assert parts == pytest.approx(whole, abs=1e-4)


def test_metrics_of_a_loss_may_be_tensors(policy):
    def with_tensor(inputs, config):
        found, metrics = loss(inputs, config)
        return found, {**metrics, "own": found.detach()}

    update = make_update(policy)
    update.loss = with_tensor
    assert isinstance(update.run(off_policy_samples(policy), step=0)["own"], float)


def test_minibatches_partition_the_samples(policy):
    update = make_update(policy, minibatch_size=3, epochs_per_batch=2)
    samples = [Sample(make_decision(seed=i)) for i in range(8)]
    steps = {step: list(update._minibatches(samples, step)) for step in (1, 2)}
    addresses = [address for address, _ in steps[1]]
    assert addresses == [(1, epoch, number) for epoch in range(2) for number in range(3)]
    assert [len(cut) for _, cut in steps[1]] == [3, 3, 2] * 2
    orders = [[id(s) for _, cut in steps[step][3 * e : 3 * e + 3] for s in cut] for step in (1, 2) for e in (0, 1)]
    assert all(sorted(order) == sorted(map(id, samples)) for order in orders)
    assert len(set(map(tuple, orders))) == 4
    again = [id(s) for _, cut in update._minibatches(samples, step=1) for s in cut]
    assert again == orders[0] + orders[1]


def test_loss_metric_is_the_mean_over_minibatches(policy):
    samples = [Sample(make_decision(seed=i), advantage=2.0) for i in range(4)]
    for options in ({}, {"minibatch_size": 1}, {"minibatch_size": 2, "epochs_per_batch": 3}):
        assert run(policy, samples, **options)[0]["loss"] == pytest.approx(-2.0)


def test_evaluate_returns_log_probs_in_order(policy):
    decisions = mixed_decisions()
    ours = make_update(policy, micro_batch_size=2).evaluate(decisions)
    for (mine, values), expected in zip(ours, log_probs(policy, decisions), strict=True):
        assert torch.allclose(mine, expected, atol=1e-5)
        assert values is None


def test_evaluate_sends_only_the_tokens_of_each_row(policy):
    decisions = [make_decision(4, 8, seed=i) for i in range(128)]
    rows = make_update(policy).evaluate(decisions)
    assert len(pickle.dumps(rows)) < 128 * (8 * 4 + 600), "each tensor has about 500 bytes besides its numbers"


# --- the surrogate


def test_first_update_has_ratios_of_exactly_one(policy):
    metrics, _ = run(policy, [Sample(d, 1.0) for d in mixed_decisions()], micro_batch_size=2)
    assert (metrics["ratio_max"], metrics["ratio_mean"], metrics["clip_frac"], metrics["approx_kl"]) == (1, 1, 0, 0)


def test_first_update_has_the_policy_gradient(policy):
    decisions, advantages = mixed_decisions(), [1.0, -2.0, 0.5, 0.0, 3.0, -1.0, 0.25]
    _, gradients = run(policy, [Sample(d, a) for d, a in zip(decisions, advantages, strict=True)])
    out = policy.evaluate(decisions)
    objective = (out.log_probs * torch.tensor(advantages)[:, None])[out.mask].sum() / out.mask.sum()
    assert_close(gradients, torch.autograd.grad(-objective, list(policy.parameters())))


def test_later_passes_compare_with_the_sampling_weights(policy):
    samples = [
        Sample(d, 1.0, old) for d, old in zip(mixed_decisions(), log_probs(policy, mixed_decisions()), strict=True)
    ]
    optimizer = OptimizerConfig(learning_rate=3e-3)
    metrics = make_update(policy, epochs_per_batch=3, optimizer=optimizer).run(samples, step=0)
    assert metrics["ratio_max"] > 1.01


def test_samples_with_zero_advantage_are_skipped_with_equal_gradients(policy, monkeypatch):
    samples = off_policy_samples(policy, reference=False)
    evaluated = []
    original = policy.evaluate
    monkeypatch.setattr(policy, "evaluate", lambda ds, **o: evaluated.append(len(ds)) or original(ds, **o))
    _, skipped = run(policy, samples)
    assert sum(evaluated) == 5
    assert_close(run(policy, samples, skips_zero_advantages=False)[1], skipped)
    assert sum(evaluated) == 5 + 7


def test_batch_with_zero_advantages_leaves_the_weights_unchanged(policy):
    before = {name: tensor.clone() for name, tensor in policy.state_tensors().items()}
    update = make_update(policy, optimizer=OptimizerConfig(learning_rate=0.1, weight_decay=0.1))
    metrics = update.run([Sample(d) for d in mixed_decisions()], step=0)
    assert (metrics["loss"], metrics["grad_norm"], metrics["learning_rate"]) == (0.0, 0.0, 0.1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state_tensors().items())


# --- penalties, with numbers


def test_kl_term_has_known_values(policy):
    decisions = mixed_decisions()
    samples = [Sample(d, 0.0, None, now - 0.3) for d, now in zip(decisions, log_probs(policy, decisions), strict=True)]
    expected = {"k1": 0.3, "k2": 0.045, "k3": math.exp(-0.3) - 1 + 0.3}
    for kind, kl in expected.items():
        metrics, gradients = run(policy, samples, kl_coef=0.5, kl_kind=kind)
        assert metrics["kl"] == pytest.approx(kl, abs=1e-5)
        assert metrics["loss"] == pytest.approx(0.5 * kl, abs=1e-5)
        assert any(g.abs().max() > 1e-4 for g in gradients)


def test_entropy_bonus_has_known_values(policy):
    decisions = mixed_decisions()
    out = policy.evaluate(decisions, entropy_gradient=True)
    mean = out.entropy[out.mask].mean()
    expected = torch.autograd.grad(-0.2 * mean, list(policy.parameters()))
    metrics, gradients = run(policy, [Sample(d) for d in decisions], entropy_coef=0.2)
    assert metrics["loss"] == pytest.approx(-0.2 * float(mean.detach()), abs=1e-4)
    assert_close(gradients, expected)


def test_mask_truncated_leaves_out_truncated_responses(policy):
    kept = [Sample(make_decision(4, 5, seed=i), 1.0 - i) for i in range(3)]
    cut = [Sample(make_decision(4, 9, seed=9 + i, finish_reason="length"), 2.0) for i in range(2)]
    _, expected = run(policy, kept)
    _, masked = run(policy, [cut[0], *kept, cut[1]], mask_truncated=True)
    assert_close(masked, expected)
    _, everything = run(policy, [cut[0], *kept, cut[1]])
    assert not all(torch.allclose(a, b, atol=1e-4) for a, b in zip(everything, expected, strict=True))


def test_mask_truncated_accepts_a_batch_without_other_responses(policy):
    samples = [Sample(make_decision(finish_reason="length"), 1.0)]
    metrics = make_update(policy, mask_truncated=True).run(samples, step=0)
    assert (metrics["loss"], metrics["grad_norm"]) == (0.0, 0.0)


def test_gap_to_the_engine_is_measured_and_corrected(policy):
    decisions = mixed_decisions()
    for decision, now in zip(decisions, log_probs(policy, decisions), strict=True):
        object.__setattr__(decision.choice, "log_probs", (now - 0.5).tolist())
    samples = [Sample(d, 1.0) for d in decisions]
    plain, gradients = run(policy, samples)
    assert plain["sampler_max_ratio"] == pytest.approx(math.exp(0.5), rel=1e-4)
    assert plain["sampler_kl"] == pytest.approx(math.exp(0.5) - 1 - 0.5, abs=1e-4)
    _, corrected = run(policy, samples, correction="token")
    assert_close(corrected, [math.exp(0.5) * g for g in gradients])
    _, capped = run(policy, samples, correction="token", correction_cap=1.25)
    assert_close(capped, [1.25 * g for g in gradients])


@pytest.mark.parametrize(("capabilities", "factor"), [({Capability.EXTERNAL_ENGINE}, math.exp(0.5)), (set(), 1.0)])
def test_correction_auto_applies_to_external_engines_only(policy, monkeypatch, capabilities, factor):
    (decision,) = mixed_decisions(1)
    object.__setattr__(decision.choice, "log_probs", (log_probs(policy, [decision])[0] - 0.5).tolist())
    _, plain = run(policy, [Sample(decision, 1.0)], correction="off")
    monkeypatch.setattr(policy, "engine", SimpleNamespace(capabilities=frozenset(capabilities)))
    _, gradients = run(policy, [Sample(decision, 1.0)])
    assert_close(gradients, [factor * g for g in plain])
    object.__setattr__(decision.choice, "log_probs", None)
    _, blind = run(policy, [Sample(decision, 1.0)])
    assert_close(blind, plain)


def test_correction_needs_the_engines_log_probs(policy):
    with pytest.raises(ReasonEnvsError, match=r"algo\.correction=token needs the engine's log-probabilities"):
        run(policy, [Sample(make_decision(), 1.0)], correction="token")


# --- losses that are not finite


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_loss_that_is_not_finite_leaves_the_weights_unchanged(policy, bad):
    before = {name: tensor.clone() for name, tensor in policy.state_tensors().items()}
    samples = [Sample(make_decision(seed=i), 1.0) for i in range(3)] + [Sample(make_decision(seed=3), bad)]
    options = {"micro_batch_size": 1, "optimizer": OptimizerConfig(learning_rate=0.1)}
    with pytest.raises(ReasonEnvsError, match=r"loss is .* at step 5\. The weights are unchanged"):
        make_update(policy, **options).run(samples, step=5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state_tensors().items())
    assert all(p.grad is None for p in policy.parameters())


def test_float16_update_scales_the_loss(tiny_model):
    samples = [Sample(d, 1.0) for d in mixed_decisions()]
    _, exact = run(make_policy(tiny_model), samples)
    coarse = make_policy(tiny_model, precision="float16")
    update = make_update(coarse, optimizer=OptimizerConfig(learning_rate=1e-3, max_grad_norm=0.0))
    norms = [update.run(samples, step)["grad_norm"] for step in range(8)]
    expected = math.sqrt(sum(float(g.square().sum()) for g in exact))
    first = next(norm for norm in norms if math.isfinite(norm))
    assert first == pytest.approx(expected, rel=0.05)
