"""Log-probabilities in chunks have the same values and gradients as without chunks."""

import pytest
import torch
from torch import nn

from agents.policies import log_probs
from agents.policies.log_probs import token_log_probs


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(log_probs, "CHUNK_ROWS", 1)


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(3)
    head = nn.Linear(6, 11, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.randn(11, 6, generator=generator))
    states = torch.randn(17, 6, generator=generator).requires_grad_()
    targets = torch.randint(0, 11, (17,), generator=generator)
    temperatures = torch.linspace(0.5, 1.5, 17)
    return head, states, targets, temperatures


def run(inputs, *, entropy_gradient):
    head, states, *_ = inputs
    chosen, entropy = token_log_probs(*inputs, entropy_gradient=entropy_gradient)
    loss = chosen.sum() + (entropy.square().sum() if entropy_gradient else 0.0)
    return chosen, entropy, torch.autograd.grad(loss, [states, head.weight])


@pytest.mark.parametrize("entropy_gradient", [False, True])
@pytest.mark.parametrize("elements", [1, 11, 45, 10_000])
def test_token_log_probs_do_not_depend_on_chunks(inputs, monkeypatch, entropy_gradient, elements):
    expected = run(inputs, entropy_gradient=entropy_gradient)
    monkeypatch.setattr(log_probs, "CHUNK_ELEMENTS", elements)
    chosen, entropy, gradients = run(inputs, entropy_gradient=entropy_gradient)
    assert torch.allclose(chosen, expected[0])
    assert torch.allclose(entropy, expected[1])
    for ours, theirs in zip(gradients, expected[2], strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_token_log_probs_limit_the_logits_per_chunk(inputs, monkeypatch):
    head, sizes = inputs[0], []
    head.register_forward_hook(lambda module, args, output: sizes.append(output.numel()))
    monkeypatch.setattr(log_probs, "CHUNK_ELEMENTS", 45)
    token_log_probs(*inputs)
    assert sizes == [44, 44, 44, 44, 11]


def test_token_log_probs_equal_the_distribution(inputs):
    head, states, targets, temperatures = inputs
    distribution = torch.distributions.Categorical(logits=head(states) / temperatures[:, None])
    chosen, entropy = token_log_probs(*inputs)
    assert torch.allclose(chosen, distribution.log_prob(targets), atol=1e-6)
    assert torch.allclose(entropy, distribution.entropy(), atol=1e-6)
    assert not entropy.requires_grad


def test_token_log_probs_accept_no_positions(inputs):
    head, states, targets, temperatures = inputs
    chosen, entropy = token_log_probs(head, states[:0], targets[:0], temperatures[:0])
    assert chosen.shape == entropy.shape == (0,)


def test_token_log_probs_take_a_minimum_of_rows_per_chunk(inputs, monkeypatch):
    head, sizes = inputs[0], []
    head.register_forward_hook(lambda module, args, output: sizes.append(len(output)))
    monkeypatch.setattr(log_probs, "CHUNK_ELEMENTS", 1)
    monkeypatch.setattr(log_probs, "CHUNK_ROWS", 8)
    token_log_probs(*inputs)
    assert sizes == [8, 8, 1]
