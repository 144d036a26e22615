"""Advantages: numbers computed by hand, and invariances."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.advantages import SCALES, frac_zero_std, gae, group_relative
from agents.losses import kl_estimate
from reason_envs.errors import ReasonEnvsError


def row(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


REWARDS, VALUES = row(1, 2, 3), row(0.5, 1, 1.5)
ALL = torch.ones(1, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("gamma", "lam", "expected"),
    [(1.0, 1.0, [6, 5, 3]), (0.5, 1.0, [2.75, 3.5, 3]), (1.0, 0.5, [3.625, 4.25, 3])],
)
def test_gae_has_known_returns(gamma, lam, expected):
    advantages, returns = gae(REWARDS, VALUES, ALL, gamma, lam)
    assert returns[0].tolist() == expected
    assert torch.equal(advantages, returns - VALUES)


def test_gae_with_lambda_zero_is_the_one_step_error():
    advantages, _ = gae(row(0, 0, 5), row(1, 2, 3), ALL, 1.0, 0.0)
    assert advantages[0].tolist() == [1, 1, 2]


def test_gae_bootstraps_after_the_last_valid_position():
    advantages, returns = gae(row(1, 2, 9), row(0.5, 1, 9), row(1, 1, 0), 0.5, 1.0, bootstrap=torch.tensor([4.0]))
    # 2 + .5 * 4 = 4, 1 + .5 * 4 = 3.
    assert returns[0].tolist() == [3, 4, 0]
    assert advantages[0].tolist() == [2.5, 3, 0]


def test_gae_of_masked_rows_is_zero():
    advantages, returns = gae(row(math.nan, 1), row(2, math.inf), row(0, 0), 0.9, 0.9)
    assert advantages.tolist() == returns.tolist() == [[0, 0]]


@given(
    places=st.lists(st.booleans(), min_size=1, max_size=12),
    gamma=st.floats(0, 1),
    lam=st.floats(0, 1),
    seed=st.integers(0, 999),
)
@settings(max_examples=50, deadline=None)
def test_gae_skips_gaps(places, gamma, lam, seed):
    mask = torch.tensor([places])
    count = int(mask.sum())
    generator = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, 1, count, generator=generator, dtype=torch.float64)
    bootstrap = torch.randn(1, generator=generator, dtype=torch.float64)
    spread_rewards, spread_values = torch.full((2, 1, len(places)), math.nan, dtype=torch.float64)
    spread_rewards[mask], spread_values[mask] = rewards[0], values[0]
    dense = gae(rewards, values, torch.ones(1, count), gamma, lam, bootstrap)
    gappy = gae(spread_rewards, spread_values, mask, gamma, lam, bootstrap)
    for a, b in zip(dense, gappy, strict=True):
        assert torch.equal(a[0], b[mask])
        assert (b[~mask] == 0).all()


@given(st.integers(0, 999), st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_gae_with_lambda_one_does_not_depend_on_values(seed, gamma):
    rewards, values, other = torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mask = torch.ones(2, 6)
    assert torch.allclose(gae(rewards, values, mask, gamma, 1.0)[1], gae(rewards, other, mask, gamma, 1.0)[1])


@pytest.mark.parametrize("bad", [{"rewards": row(1)}, {"values": row(1, 2)}, {"bootstrap": torch.zeros(2)}])
def test_gae_refuses_to_broadcast(bad):
    given_tensors = {"rewards": REWARDS, "values": VALUES, **bad}
    with pytest.raises(ReasonEnvsError, match=next(iter(bad))):
        gae(mask=ALL, gamma=1.0, lam=1.0, **given_tensors)


def test_group_relative_divides_by_the_sample_deviation():
    advantages = group_relative(torch.tensor([1.0, 0, 0, 0]), list("aaaa"))
    assert advantages.tolist() == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-5)


def test_group_relative_leave_one_out():
    rewards = torch.tensor([1.0, 2, 3])
    advantages = group_relative(rewards, [7, 7, 7], scale="none", leave_one_out=True)
    assert (rewards - advantages).tolist() == [2.5, 2, 1.5]
    pairs = group_relative(torch.tensor([6.0, 3, 9, 12]), list("aabb"), scale="none", leave_one_out=True)
    assert pairs.tolist() == [3, -3, -3, 3]


def test_group_relative_without_scale_keeps_the_distance_to_the_mean():
    assert group_relative(torch.tensor([1, 0, 0, 3]), torch.tensor([0, 0, 0, 0]), scale="none").tolist() == [
        0,
        -1,
        -1,
        2,
    ]


def test_group_relative_divides_by_the_deviation_of_all_rewards():
    rewards = torch.tensor([0.5, 0.52, 4.0, 0.0])
    advantages = group_relative(rewards, list("aabb"), scale="batch", eps=0.0)
    assert (advantages * rewards.std()).tolist() == pytest.approx([-0.01, 0.01, 2, -2], abs=1e-6)


def test_group_relative_is_zero_without_a_signal():
    rewards = torch.tensor([5.0, 0.1, 0.1, 0.1, 1.0, 0.0])
    ids = ["alone", "same", "same", "same", "different", "different"]
    for scale in SCALES:
        for leave_one_out in (False, True):
            advantages = group_relative(rewards, ids, scale, leave_one_out=leave_one_out)
            assert advantages[:4].tolist() == [0, 0, 0, 0]
            assert advantages[4] > 0 > advantages[5]
    assert frac_zero_std(rewards, ids) == pytest.approx(2 / 3)
    assert frac_zero_std(torch.tensor([]), []) == 0
    assert group_relative(torch.tensor([]), []).tolist() == []


groups_of_rewards = st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 3)), min_size=1, max_size=14)


@given(groups_of_rewards, st.randoms(use_true_random=False), st.sampled_from(SCALES), st.booleans())
@settings(max_examples=60, deadline=None)
def test_group_relative_sums_to_zero_in_any_order(items, random, scale, leave_one_out):
    order = list(range(len(items)))
    random.shuffle(order)
    ids, rewards = [i for i, _ in items], torch.tensor([float(r) for _, r in items], dtype=torch.float64)
    advantages = group_relative(rewards, ids, scale, leave_one_out=leave_one_out)
    shuffled = group_relative(rewards[order], [ids[i] for i in order], scale, leave_one_out=leave_one_out)
    assert torch.allclose(advantages[order], shuffled)
    assert frac_zero_std(rewards, ids) == pytest.approx(frac_zero_std(rewards[order], [ids[i] for i in order]))
    for group in set(ids):
        assert advantages[torch.tensor(ids) == group].sum().abs() < 1e-6


def test_group_relative_with_scale_ignores_affine_changes():
    rewards, ids = torch.tensor([0.0, 1, 1, 5], dtype=torch.float64), [0, 0, 0, 0]
    plain = group_relative(rewards, ids, eps=0.0)
    assert torch.allclose(plain, group_relative(3 * rewards - 7, ids, eps=0.0))
    assert plain.std() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("rewards", "ids", "scale", "message"),
    [
        (torch.tensor([1.0]), ["a", "a"], "std", "2 group ids"),
        (torch.tensor([[1.0]]), ["a"], "std", r"\[1, 1\]"),
        (torch.tensor([0.0, math.nan]), ["a", "a"], "std", r"rewards\[1\] is nan"),
        (torch.tensor([1.0]), ["a"], "sdt", "Did you mean 'std'"),
    ],
)
def test_group_relative_refuses_wrong_input(rewards, ids, scale, message):
    with pytest.raises(ReasonEnvsError, match=message):
        group_relative(rewards, ids, scale)


def test_kl_penalty_lowers_the_reward():
    rewards = row(0, 0, 1) - 0.5 * kl_estimate(row(-1.1, -1.1, -1.1), row(-1, -1, -1), kind="k1")
    assert rewards[0].tolist() == pytest.approx([0.05, 0.05, 1.05])
