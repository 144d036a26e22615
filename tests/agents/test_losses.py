"""Losses: numbers computed by hand, gradients, and invariances."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.losses import (
    AGGREGATIONS,
    aggregate,
    aggregation_count,
    clipped_policy_loss,
    combine_metrics,
    importance_correction,
    kl_estimate,
    overlong_penalty,
    value_loss,
)
from reason_envs.errors import ReasonEnvsError

VALUES = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(
    ("how", "horizon", "expected"),
    [
        ("token_mean", None, 18 / 5),
        ("seq_mean_token_mean", None, (1.5 + 5) / 2),
        ("seq_mean_token_sum", None, (3 + 15) / 2),
        ("horizon", 10, (0.3 + 1.5) / 2),
    ],
)
def test_aggregate_has_known_values(how, horizon, expected):
    assert aggregate(VALUES, MASK, how, horizon) == pytest.approx(expected)
    # An empty sequence is ignored, and a given denominator replaces the count of the batch.
    more, mask = torch.cat([VALUES, torch.full((1, 3), math.nan)]), torch.cat([MASK, torch.zeros(1, 3)])
    assert aggregate(more, mask, how, horizon) == pytest.approx(expected)
    count = aggregation_count(MASK, how)
    assert int(count) == (5 if how == "token_mean" else 2)
    assert aggregate(VALUES, MASK, how, horizon, denominator=10 * int(count)) == pytest.approx(expected / 10)
    assert aggregate(VALUES, MASK, how, horizon, denominator=10 * count) == pytest.approx(expected / 10)


@pytest.mark.parametrize("how", AGGREGATIONS)
@pytest.mark.parametrize("denominator", [None, 0, 4.0])
def test_aggregate_of_masked_input_is_zero(how, denominator):
    horizon = 5 if how == "horizon" else None
    values = torch.full((2, 3), math.nan, requires_grad=True)
    loss = aggregate(values, torch.zeros(2, 3), how, horizon, denominator)
    loss.backward()
    assert loss == 0
    assert (values.grad == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"how": "token_maen"}, "Did you mean 'token_mean'"),
        ({"how": "horizon"}, "horizon=None"),
        ({"horizon": 4}, "horizon=4 does not fit aggregation 'token_mean'"),
        ({"denominator": 0}, "denominator=0.0 must be positive"),
    ],
)
def test_aggregate_refuses_ambiguous_arguments(arguments, message):
    with pytest.raises(ReasonEnvsError, match=message):
        aggregate(VALUES, MASK, **arguments)


def test_kl_estimate_has_known_values():
    log_probs, reference = tensor([math.log(0.5)]), tensor([math.log(0.25)])
    assert kl_estimate(log_probs, reference, "k1").item() == pytest.approx(math.log(2))
    assert kl_estimate(log_probs, reference, "k2").item() == pytest.approx(math.log(2) ** 2 / 2)
    assert kl_estimate(log_probs, reference, "k3").item() == pytest.approx(0.5 - 1 + math.log(2))


def test_k1_and_k3_average_to_the_kl_and_k3_is_never_negative():
    policy, reference = torch.tensor([0.7, 0.2, 0.1]).double(), torch.tensor([0.3, 0.3, 0.4]).double()
    exact = float((policy * (policy / reference).log()).sum())
    for kind in ("k1", "k3"):
        assert float((policy * kl_estimate(policy.log(), reference.log(), kind)).sum()) == pytest.approx(exact)
    assert (kl_estimate(policy.log(), reference.log(), "k3") >= 0).all()


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_kl_clamp_limits_values_and_stops_gradients_beyond(kind):
    log_probs = torch.tensor([-500.0, -1.0, 0.0], requires_grad=True)
    estimate = kl_estimate(log_probs, torch.tensor([0.0, -1.1, -500.0]), kind, clamp=3.0)
    estimate.sum().backward()
    assert estimate.abs().max() <= 3.0
    assert estimate[1] == kl_estimate(log_probs, torch.tensor([0.0, -1.1, -500.0]), kind)[1]
    assert torch.isfinite(log_probs.grad).all()
    assert log_probs.grad[1] != 0
    assert log_probs.grad[0] == log_probs.grad[2] == 0


@given(clamp=st.floats(0.01, 50), difference=st.floats(-60, 60))
def test_kl_clamp_is_the_clamp_of_the_estimate(clamp, difference):
    plain = kl_estimate(tensor([difference]), tensor([0.0]), "k3")
    assert torch.allclose(kl_estimate(tensor([difference]), tensor([0.0]), "k3", clamp), plain.clamp(-clamp, clamp))


def loss_of(ratio, advantage, **options):
    loss, metrics = clipped_policy_loss(
        tensor([math.log(ratio)]), tensor([0.0]), tensor([advantage]), torch.ones(1, 1), **options
    )
    return loss.item(), metrics


@pytest.mark.parametrize(
    ("ratio", "advantage", "options", "expected", "clipped"),
    [
        (1.1, 2.0, {}, -2.2, 0),
        (1.5, 2.0, {}, -2.4, 1),
        (1.5, 2.0, {"clip_high": 0.28}, -2.56, 1),
        (0.5, 2.0, {}, -1.0, 0),
        (0.5, -2.0, {}, 1.6, 1),
        (0.5, -2.0, {"clip_low": 0.3}, 1.4, 1),
        (1.5, -2.0, {}, 3.0, 0),
        (5.0, -2.0, {}, 10.0, 0),
        (5.0, -2.0, {"dual_clip": 3.0}, 6.0, 1),
        (2.0, -2.0, {"dual_clip": 3.0}, 4.0, 0),
        (5.0, 2.0, {"dual_clip": 3.0}, -2.4, 1),
    ],
)
def test_clipped_policy_loss_has_known_values(ratio, advantage, options, expected, clipped):
    loss, metrics = loss_of(ratio, advantage, **options)
    assert loss == pytest.approx(expected)
    assert metrics["clip_frac"] == clipped
    assert metrics["ratio_mean"] == metrics["ratio_max"] == pytest.approx(ratio)
    assert metrics["approx_kl"] == pytest.approx(ratio - 1 - math.log(ratio))


def test_sequence_importance_is_the_geometric_mean_of_valid_tokens():
    log_probs = tensor([math.log(1.1), math.log(0.9), 99.0], [math.log(1.5), math.log(1.5), math.log(1.5)])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    loss, metrics = clipped_policy_loss(
        log_probs,
        torch.zeros_like(log_probs),
        torch.tensor([1.0, 1.0]).double(),
        mask,
        importance="sequence",
        aggregation="seq_mean_token_mean",
    )
    assert loss.item() == pytest.approx(-(math.sqrt(0.99) + 1.2) / 2)
    assert metrics["ratio_max"] == pytest.approx(1.5)
    assert metrics["clip_frac"] == pytest.approx(3 / 5)


def batch(seed, rows=5, width=6):
    """Return log-probs, old log-probs, advantages [B, T], a ragged mask and correction weights."""
    generator = torch.Generator().manual_seed(seed)
    new, old, advantages = torch.randn(3, rows, width, generator=generator, dtype=torch.float64)
    lengths = torch.randint(0, width + 1, (rows, 1), generator=generator)
    weights = torch.rand(rows, width, generator=generator, dtype=torch.float64)
    return -new.abs(), -new.abs() + old / 4, advantages, torch.arange(width) < lengths, weights


variants = {
    "aggregation": st.sampled_from(AGGREGATIONS),
    "importance": st.sampled_from(["token", "sequence"]),
    "dual_clip": st.sampled_from([None, 1.5]),
}


@given(seed=st.integers(0, 10**6), size=st.integers(1, 5), **variants)
@settings(max_examples=60, deadline=None)
def test_micro_batches_give_the_same_loss_gradient_and_metrics(seed, size, **options):
    options["horizon"] = 7 if options["aggregation"] == "horizon" else None
    new, old, advantages, mask, weights = batch(seed)
    count = aggregation_count(mask, options["aggregation"])
    whole = new.clone().requires_grad_()
    loss, metrics = clipped_policy_loss(whole, old, advantages, mask, correction=weights, **options)
    loss.backward()
    parts, summed, gathered = new.clone().requires_grad_(), 0.0, []
    for cut in torch.arange(len(new)).split(size):
        part, part_metrics = clipped_policy_loss(
            parts[cut], old[cut], advantages[cut], mask[cut], correction=weights[cut], denominator=count, **options
        )
        part.backward()
        summed += part.item()
        gathered.append(part_metrics)
    assert summed == pytest.approx(loss.item(), abs=1e-12)
    assert torch.allclose(parts.grad, whole.grad, atol=1e-12)
    assert combine_metrics(gathered) == pytest.approx(metrics)


@given(seed=st.integers(0, 10**6), **variants)
@settings(max_examples=40, deadline=None)
def test_masked_positions_do_not_change_loss_and_gradient(seed, **options):
    options["horizon"] = 7 if options["aggregation"] == "horizon" else None
    new, old, advantages, mask, weights = batch(seed)
    garbage = torch.tensor([math.nan, math.inf, -math.inf]).double()[torch.arange(6) % 3].expand(5, 6)
    results = []
    for filler in (torch.zeros(5, 6).double(), garbage):
        inputs = [torch.where(mask, t, filler) for t in (new, old, advantages, weights)]
        inputs[0].requires_grad_()
        correction = importance_correction(inputs[1], inputs[0].detach(), mask, options["importance"]) * inputs[3]
        loss, metrics = clipped_policy_loss(*inputs[:3], mask, correction=correction, **options)
        values = value_loss(inputs[0], inputs[1], inputs[2], mask, clip=0.1)
        (loss + values).backward()
        results.append((loss, values, inputs[0].grad, metrics))
    clean, dirty = results
    assert all(torch.equal(a, b) for a, b in zip(clean[:3], dirty[:3], strict=True))
    assert clean[3] == dirty[3]
    assert (dirty[2][~mask] == 0).all()


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_losses_ignore_the_order_of_sequences(seed):
    new, old, advantages, mask, _ = batch(seed)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    loss = clipped_policy_loss(new, old, advantages, mask)[0]
    assert torch.allclose(loss, clipped_policy_loss(new[order], old[order], advantages[order], mask[order])[0])


@pytest.mark.parametrize("importance", ["token", "sequence"])
def test_clipped_policy_loss_has_the_policy_gradient_at_ratio_one(importance):
    new, _, _, mask, weights = batch(3)
    advantages = torch.tensor([1.0, -2.0, 0.5, 3.0, -1.0]).double()
    new.requires_grad_()
    clipped_policy_loss(
        new,
        new.detach(),
        advantages,
        mask,
        importance=importance,
        correction=weights,
        aggregation="seq_mean_token_mean",
    )[0].backward()
    surrogate, found = new.grad.clone(), new.detach().clone().requires_grad_()
    if importance == "sequence":
        # One ratio per sequence: its tokens share the mean of their weights.
        lengths = mask.sum(-1, keepdim=True).clamp(min=1)
        weights = ((weights * mask).sum(-1, keepdim=True) / lengths).expand(mask.shape)
    aggregate(-advantages[:, None] * weights * found, mask, "seq_mean_token_mean").backward()
    assert torch.allclose(surrogate, found.grad)
    assert surrogate.abs().sum() > 0


def test_advantages_of_sequences_apply_to_all_tokens():
    new, old, _, mask, _ = batch(1)
    advantages = torch.tensor([1.0, -2, 3, -4, 5]).double()
    spread = clipped_policy_loss(new, old, advantages[:, None].expand(5, 6), mask)[0]
    assert torch.equal(clipped_policy_loss(new, old, advantages, mask)[0], spread)


def test_clipped_policy_loss_is_finite_at_huge_ratios():
    log_probs = torch.tensor([[0.0, -500.0]], requires_grad=True)
    loss, metrics = clipped_policy_loss(
        log_probs, torch.tensor([[-500.0, 0.0]]), torch.tensor([[1.0, -1.0]]), torch.ones(1, 2)
    )
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(log_probs.grad).all()
    assert all(math.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dual_clip": 1.0}, "dual_clip=1.0 must be above 1"),
        ({"clip_low": 1.5}, "clip_low=1.5"),
        ({"clip_high": -0.1}, "clip_high=-0.1"),
        ({"importance": "tokne"}, "Did you mean 'token'"),
        ({"correction": torch.ones(3)}, r"correction has shape \[3\]"),
        ({"old_log_probs": torch.zeros(1, 6)}, "old_log_probs"),
        ({"advantages": torch.zeros(1)}, "advantages"),
    ],
)
def test_losses_refuse_wrong_arguments(arguments, message):
    new, old, advantages, mask, _ = batch(0)
    with pytest.raises(ReasonEnvsError, match=message):
        clipped_policy_loss(new, **{"old_log_probs": old, "advantages": advantages, "mask": mask, **arguments})


@pytest.mark.parametrize(("level", "expected"), [("token", [2.0, 1.5, 0.0]), ("sequence", [2.0, 2.0, 0.0])])
def test_importance_correction_has_known_values(level, expected):
    old = tensor([math.log(3.0), math.log(1.5), 7.0]).requires_grad_()
    weights = importance_correction(old, torch.zeros_like(old), torch.tensor([[1, 1, 0]]), level, 2.0)
    assert weights[0].tolist() == pytest.approx(expected)
    assert not weights.requires_grad


def test_importance_correction_of_sequences_is_the_product():
    weights = importance_correction(
        tensor([math.log(0.5), math.log(1.5)]), tensor([0.0, 0.0]), torch.ones(1, 2), "sequence"
    )
    assert weights[0].tolist() == pytest.approx([0.75, 0.75])


def test_value_loss_has_known_values():
    values, old, returns = tensor([1.0, 3.0, 9.0]), tensor([1.0, 1.0, 9.0]), tensor([2.0, 4.0, 0.0])
    mask = torch.tensor([[1, 1, 0]])
    assert value_loss(values, old, returns, mask).item() == pytest.approx((1 + 1) / 2 / 2)
    # The second value changed by 2, of which 0.5 counts: the error is 2.5 instead of 1.
    assert value_loss(values, old, returns, mask, clip=0.5).item() == pytest.approx((1 + 6.25) / 2 / 2)
    assert value_loss(values, old, returns, mask, denominator=8).item() == pytest.approx(2 / 8 / 2)
    assert value_loss(values, old, returns, torch.zeros(1, 3)).item() == 0


def test_overlong_penalty_has_known_values():
    assert overlong_penalty(torch.tensor([50, 80, 90, 100, 110]), 100, 20).tolist() == [0, 0, -0.5, -1, -1]
    with pytest.raises(ReasonEnvsError, match="cache=0"):
        overlong_penalty(torch.tensor([1]), 100, 0)
