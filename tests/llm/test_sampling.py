"""Token sampling: reference values, correct frequencies, and independence of the batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import Sampling
from reason_envs.llm.sampling import TokenSampler, uniforms

CPU = torch.device("cpu")
MASK = 2**64 - 1


def draw(logits, samplings, uniform):
    return TokenSampler(samplings, CPU)(torch.as_tensor(logits, dtype=torch.float32), np.asarray(uniform))


def hashed(seeds, positions):
    return uniforms(np.array(seeds, dtype=np.uint64), np.array(positions))


def mix(z):
    """SplitMix64's finaliser in plain integers."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def test_uniforms_match_the_splitmix_reference_value():
    # The first output of SplitMix64 seeded with 0 (Vigna's reference implementation).
    assert mix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF
    assert hashed([0], [0])[0] == (0xE220A8397B1DCDAF >> 11) * 2.0**-53


@given(st.integers(0, 2**63 - 1), st.integers(0, 10_000))
def test_uniforms_equal_the_hash_in_plain_integers(seed, position):
    state = mix((mix(seed) + (position + 1) * 0x9E3779B97F4A7C15) & MASK)
    assert hashed([seed], [position])[0] == (state >> 11) * 2.0**-53


@pytest.mark.parametrize("vary", ["seed", "position"])
def test_uniforms_are_uniform_and_uncorrelated(vary):
    numbers, fixed = np.arange(20_000), np.full(20_000, 7)
    values = hashed(numbers, fixed) if vary == "seed" else hashed(fixed, numbers)
    assert values.min() >= 0
    assert values.max() < 1
    distance = np.abs(np.sort(values) - (np.arange(20_000) + 0.5) / 20_000).max()
    assert distance * np.sqrt(20_000) < 1.95  # Kolmogorov-Smirnov, one in a thousand
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03


def test_token_sampler_draws_tokens_with_their_probabilities():
    probabilities = np.array([0.5, 0.2, 0.0, 0.2, 0.06, 0.04])
    count = 20_000
    logits = np.log(np.maximum(probabilities, 1e-38))
    logits[2] = -np.inf
    tokens, _ = draw(np.tile(logits, (count, 1)), [Sampling()] * count, hashed(np.arange(count), np.zeros(count)))
    seen = np.bincount(tokens.numpy(), minlength=6)
    assert seen[2] == 0
    seen, expected = np.delete(seen, 2), np.delete(probabilities, 2) * count
    assert ((seen - expected) ** 2 / expected).sum() < 18.47  # chi-square, 4 degrees of freedom, one in a thousand


@pytest.mark.parametrize(("uniform", "token"), [(0.0, 1), (0.25 - 1e-7, 1), (0.25 + 1e-7, 3), (1 - 2.0**-53, 3)])
def test_token_sampler_never_draws_a_token_of_probability_0(uniform, token):
    logits = torch.tensor([[-np.inf, np.log(0.25), -np.inf, np.log(0.75), -np.inf]])
    assert draw(logits, [Sampling()], [uniform])[0].item() == token


def drawn(probabilities, **sampling):
    """Return the tokens and their frequencies over a fine grid of uniform numbers."""
    grid = (np.arange(2000) + 0.5) / 2000
    tokens, _ = draw(np.tile(np.log(probabilities), (2000, 1)), [Sampling(**sampling)] * 2000, grid)
    return {int(t) for t in tokens}, np.bincount(tokens.numpy(), minlength=len(probabilities)) / 2000


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        ({}, {0, 1, 2, 3}),
        ({"top_k": 1}, {1}),
        ({"top_k": 2}, {0, 1}),  # 0 and 2 tie: the lower index stays
        ({"top_k": 3}, {0, 1, 2}),
        ({"top_k": 9}, {0, 1, 2, 3}),
        ({"top_p": 0.01}, {1}),
        ({"top_p": 0.45}, {0, 1}),
        ({"top_p": 0.65}, {0, 1}),
        ({"top_p": 0.66}, {0, 1, 2}),
        ({"top_p": 0.9, "top_k": 2}, {0, 1}),
    ],
)
def test_token_sampler_keeps_the_tokens_of_top_p_and_top_k(sampling, kept):
    probabilities = np.array([0.25, 0.4, 0.25, 0.1])
    tokens, frequencies = drawn(probabilities, **sampling)
    assert tokens == kept
    expected = np.where([i in kept for i in range(4)], probabilities, 0)
    assert np.allclose(frequencies, expected / expected.sum(), atol=2e-3)


def test_token_sampler_returns_log_probs_at_the_temperature_before_cuts():
    logits = torch.tensor([[1.0, 2.0, 0.0]])
    token, log_prob = draw(logits, [Sampling(temperature=0.5, top_k=1)], [0.9])
    assert token.item() == 1
    assert log_prob.item() == pytest.approx(4 - np.log(np.exp([2, 4, 0]).sum()), abs=1e-6)


def test_token_sampler_mixes_greedy_and_sampled_rows():
    logits = np.tile([0.0, 1.0, 0.9], (3, 1))
    samplings = [Sampling(), Sampling(temperature=0), Sampling(temperature=2.0)]
    tokens, log_probs = draw(logits, samplings, [0.0, 0.999, 0.999])
    assert tokens.tolist() == [0, 1, 2]
    assert log_probs[1].item() == pytest.approx(1 - np.log(np.exp([0, 1, 0.9]).sum()), abs=1e-6)


def test_token_sampler_select_keeps_the_parameters_of_rows():
    sampler = TokenSampler([Sampling(temperature=0), Sampling(top_k=1), Sampling()], CPU)
    sampler.select(torch.tensor([1, 2]))
    tokens, _ = sampler(torch.tensor([[0.0, 3.0]] * 2), np.array([0.0, 0.0]))
    assert tokens.tolist() == [1, 0]


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_token_sampler_rows_do_not_depend_on_each_other(seed, rows):
    generator = np.random.default_rng(seed)
    logits, uniform = generator.normal(size=(rows, 17)), generator.random(rows)
    choices = [Sampling(), Sampling(temperature=0.3), Sampling(temperature=0), Sampling(top_p=0.7), Sampling(top_k=3)]
    samplings = [choices[i] for i in generator.integers(0, len(choices), rows)]
    together = draw(logits, samplings, uniform)
    for i in range(rows):
        token, log_prob = draw(logits[i : i + 1], samplings[i : i + 1], uniform[i : i + 1])
        assert token.item() == together[0][i].item()
        assert log_prob.item() == together[1][i].item()


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -0.1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"max_tokens": 0},
        {"stop": ("",)},
        {"stop": "END"},
    ],
)
def test_sampling_refuses_invalid_parameters(bad):
    with pytest.raises(ReasonEnvsError, match=next(iter(bad))):
        Sampling(**bad)
