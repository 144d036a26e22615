"""The size of passes: planned from the memory of activations, and halved when memory runs out."""

import logging
import weakref

import pytest
import torch
from language_toys import make_decision, make_policy
from test_update import assert_close, make_update, off_policy_samples, run

from agents.algorithms.pass_size import ACTIVATION_BYTES, MAXIMUM_TOKENS, PassSize
from agents.policies.activations import SavedBytes


@pytest.fixture
def policy(tiny_model):
    return make_policy(tiny_model)


def limit_memory(policy, monkeypatch, rows, error):
    """Let passes of more than ``rows`` decisions raise an error; return the sizes of the passes that ran."""
    whole, sizes = policy.evaluate, []

    def evaluate(decisions, **options):
        if len(decisions) > rows:
            raise error
        sizes.append(len(decisions))
        return whole(decisions, **options)

    monkeypatch.setattr(policy, "evaluate", evaluate)
    return sizes


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 byte")],
)
def test_an_update_that_runs_out_of_memory_is_repeated_with_smaller_passes(policy, monkeypatch, caplog, error):
    samples = off_policy_samples(policy)
    expected, gradients = run(policy, samples)
    sizes = limit_memory(policy, monkeypatch, 2, error)
    with caplog.at_level(logging.WARNING):
        metrics, repeated = run(policy, samples)
    assert sizes
    assert max(sizes) <= 2
    assert_close(repeated, gradients)
    assert metrics == pytest.approx(expected, abs=1e-4)
    assert "algo.micro_batch_tokens=" in caplog.text


def test_an_update_keeps_the_smaller_passes(policy, monkeypatch):
    samples = off_policy_samples(policy)
    limit_memory(policy, monkeypatch, 2, torch.OutOfMemoryError("CUDA out of memory."))
    update = make_update(policy)
    update.run(samples, step=0)
    monkeypatch.setattr(update._pass_size, "halve", lambda *_: pytest.fail("ran out of memory again"))
    update.run(samples, step=1)


def test_an_update_without_memory_for_one_decision_recomputes_activations(policy, monkeypatch, caplog):
    samples = off_policy_samples(policy)
    expected, gradients = run(policy, samples)
    whole = policy.evaluate

    def evaluate(decisions, **options):
        if not policy.model.is_gradient_checkpointing:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(decisions, **options)

    monkeypatch.setattr(policy, "evaluate", evaluate)
    with caplog.at_level(logging.WARNING):
        metrics, repeated = run(policy, samples)
    assert_close(repeated, gradients)
    assert metrics == pytest.approx(expected, abs=1e-4)
    assert "Set policy.gradient_checkpointing=true to start so." in caplog.text


@pytest.mark.parametrize("supported", [True, False])
def test_too_little_memory_for_one_decision_is_an_error(policy, monkeypatch, supported):
    monkeypatch.setattr(type(policy.model), "supports_gradient_checkpointing", supported)
    samples = off_policy_samples(policy)
    limit_memory(policy, monkeypatch, 0, torch.OutOfMemoryError("CUDA out of memory."))
    with pytest.raises(torch.OutOfMemoryError):
        run(policy, samples)
    assert policy.model.is_gradient_checkpointing is supported


def test_other_errors_are_not_repeated(policy, monkeypatch):
    samples = off_policy_samples(policy)
    sizes = limit_memory(policy, monkeypatch, 2, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(policy, samples)
    assert not sizes


@pytest.mark.parametrize(
    ("per_token", "tokens"),
    [(0, MAXIMUM_TOKENS), (1, MAXIMUM_TOKENS), (ACTIVATION_BYTES // 40, 40), (2 * ACTIVATION_BYTES, 0)],
)
def test_planned_passes_fit_into_the_budget(policy, monkeypatch, per_token, tokens):
    monkeypatch.setattr(policy, "activation_bytes", lambda: per_token)
    decisions = [make_decision(seed=i) for i in range(12)]
    lengths = policy.lengths(decisions)
    cuts = PassSize(policy, None).cut(decisions, None)
    assert sorted(i for cut in cuts for i in cut) == list(range(12))
    for cut in cuts:
        assert len(cut) == 1 or len(cut) * max(lengths[i] for i in cut) <= tokens


def test_saved_bytes_counts_activations_once_and_no_weights():
    weight = torch.ones(8, 16, requires_grad=True)
    inputs = torch.ones(4, 8)
    saved = SavedBytes([weight])
    with saved:
        hidden = inputs @ weight  # keeps the inputs
        (hidden * hidden).sum()  # keeps the product, twice
    assert saved.total == (inputs.numel() + hidden.numel()) * 4


def test_counted_results_are_freed_with_their_last_reference():
    inputs = torch.ones(4, requires_grad=True)
    with SavedBytes([]):
        result = inputs.exp()  # its backward pass needs the result itself
    still_there = weakref.ref(result)
    del result
    assert still_there() is None


def test_activation_bytes_of_a_language_model_grow_with_its_layers(tiny_model):
    policy = make_policy(tiny_model)
    config, measured = policy.model.config, policy.activation_bytes()
    floats = config.num_hidden_layers * (8 * config.hidden_size + 4 * config.intermediate_size)
    assert 0.5 < measured / (4 * floats) < 2.5


def test_activation_bytes_contain_no_copies_of_the_weights(tiny_model, monkeypatch):
    monkeypatch.setattr("agents.policies.language.PROBE_TOKENS", 4)  # per token, copies of all weights are many bytes
    half, full = (make_policy(tiny_model, precision=precision) for precision in ("bfloat16", "float32"))
    assert half.activation_bytes() < full.activation_bytes()
