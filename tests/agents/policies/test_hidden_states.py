"""Equal prompts and equal responses are computed once, with the same results."""

import pytest
import torch
from language_toys import make_decision, make_policy
from transformers import Qwen3Config, Qwen3ForCausalLM

from agents.policies.hidden_states import token_states
from agents.policies.padding import collate, deduplicate
from agents.trajectory import Choice
from reason_envs.llm.engine import Sampling


@pytest.fixture(scope="module")
def policy(tiny_model):
    return make_policy(tiny_model)


def grouped(prompts=(5, 9, 3), responses=(1, 6, 4)):
    """Return responses of several lengths to a few prompts; the first response to each prompt is repeated."""
    decisions = []
    for p, prompt in enumerate(prompts):
        shared = make_decision(prompt, 1, seed=p).choice.prompt_ids
        for r, response in enumerate([*responses, responses[0]]):
            decision = make_decision(prompt, response, seed=r % len(responses))
            choice = decision.choice
            decision.choice = Choice(choice.token_ids, None, Sampling(16), "stop", 0, shared, "")
            decisions.append(decision)
    return decisions


def test_shared_prompts_give_the_values_and_gradients_of_separate_ones(policy):
    decisions = grouped()
    together = policy.evaluate(decisions, entropy_gradient=True)
    alone = [policy.evaluate([d], entropy_gradient=True) for d in decisions]
    assert together.mask.sum(1).tolist() == [len(d.choice.token_ids) for d in decisions]
    weights = torch.linspace(-1, 1, len(decisions))
    losses = [
        (weights[:, None] * (together.log_probs + 0.3 * together.entropy)).sum(),
        sum(w * (out.log_probs + 0.3 * out.entropy).sum() for w, out in zip(weights, alone, strict=True)),
    ]
    for row, out in zip(together.log_probs, alone, strict=True):
        assert torch.allclose(row[: out.log_probs.shape[1]], out.log_probs[0], atol=1e-5)
    gradients = [torch.autograd.grad(loss, list(policy.parameters())) for loss in losses]
    assert any(g.abs().max() > 1e-2 for g in gradients[0])
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=5e-5)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_gradients_of_shared_prompts_do_not_depend_on_threads(policy, two_threads):
    batch = collate(grouped(prompts=(90,), responses=[4] * 127), 0)
    found = set()
    for _ in range(30):
        loss = token_states(policy.model, batch, share_prompts=True).square().sum()
        gradients = torch.autograd.grad(loss, [p for p in policy.model.parameters() if p.requires_grad])
        found.add(b"".join(g.numpy().tobytes() for g in gradients))
    assert len(found) == 1


def test_shared_prompts_accept_responses_of_one_token(policy):
    decisions = grouped(responses=(1,), prompts=(4, 7))
    out = policy.evaluate(decisions)
    assert out.log_probs.shape == (4, 1)
    for row, decision in zip(out.log_probs, decisions, strict=True):
        assert torch.allclose(row, policy.evaluate([decision]).log_probs[0], atol=1e-5)


def computed_tokens(model, batch, **options):
    """Count the positions that pass through the first layer."""
    seen = []
    handle = model.base_model.layers[0].register_forward_pre_hook(
        lambda _, args: seen.append(args[0].shape[:2].numel())
    )
    token_states(model, batch, **options)
    handle.remove()
    return sum(seen)


def test_token_states_compute_a_shared_prompt_once(policy):
    batch = collate(grouped(), pad_id=0)
    assert computed_tokens(policy.model, batch, share_prompts=True) == 3 * 9 + 12 * 5
    assert computed_tokens(policy.model, batch, share_prompts=False) == 12 * (9 + 6)


def test_token_states_compute_whole_sequences_for_sliding_caches():
    shape = {"vocab_size": 1200, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "head_dim": 8}
    layers = {"num_key_value_heads": 1, "num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"]}
    model = Qwen3ForCausalLM(Qwen3Config(**shape, **layers, use_sliding_window=True, sliding_window=4))
    batch = collate(grouped(), pad_id=0)
    assert computed_tokens(model, batch, share_prompts=True) == 12 * (9 + 6)


def test_deduplicate_keeps_the_first_of_equal_choices():
    one, two = make_decision(5, 3, seed=1), make_decision(5, 3, seed=2)
    warmer = make_decision(5, 3, seed=1, temperature=1.5)
    again = make_decision(5, 3, seed=1, reward=2.0)
    kept, places = deduplicate([one, two, again, warmer, two])
    assert kept == [one, two, warmer]
    assert places.tolist() == [0, 1, 0, 2, 1]
