"""Attention in bfloat16 on a CPU: the forward pass of ``sdpa``, gradients in float32."""

from types import SimpleNamespace

import pytest
import torch
from language_toys import make_policy, mixed_decisions
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from agents.policies import attention

MODULE = SimpleNamespace(num_key_value_groups=2, is_causal=True, training=True)


def inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 4, 5, 8), (3, 2, 9, 8), (3, 2, 9, 8))
    tensors = [torch.randn(shape, generator=generator).bfloat16().to(dtype).requires_grad_() for shape in shapes]
    seen = torch.ones(3, 1, 5, 9).tril(4).bool()
    return tensors, seen


def gradients(attend, dtype, mask_of=lambda seen: seen, **options):
    tensors, seen = inputs(dtype)
    out, _ = attend(MODULE, *tensors, mask_of(seen), scaling=0.3, **options)
    weights = torch.linspace(-1, 1, out.numel()).view(out.shape).bfloat16().float()
    return out, torch.autograd.grad((out.float() * weights).sum(), tensors)


def as_numbers(seen):
    return torch.where(seen, 0.0, -1e9).bfloat16()


@pytest.mark.parametrize("mask_of", [lambda seen: seen, as_numbers])
def test_attention_has_the_output_of_sdpa_and_gradients_of_float32(mask_of):
    out, found = gradients(attention.attention, torch.bfloat16, mask_of)
    plain, coarse = gradients(sdpa_attention_forward, torch.bfloat16, mask_of)
    _, exact = gradients(sdpa_attention_forward, torch.float32)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, plain)
    for ours, theirs, true in zip(found, coarse, exact, strict=True):
        assert ours.dtype == torch.bfloat16
        assert torch.equal(ours, true.bfloat16())
        assert not torch.equal(theirs, true.bfloat16())


@pytest.mark.parametrize("options", [{"dropout": 0.5}, {"position_bias": torch.zeros(1, 4, 5, 9).bfloat16()}])
def test_attention_is_sdpa_with_dropout_or_a_bias_of_positions(options):
    torch.manual_seed(0)
    _, found = gradients(attention.attention, torch.bfloat16, as_numbers, **options)
    torch.manual_seed(0)
    _, plain = gradients(sdpa_attention_forward, torch.bfloat16, as_numbers, **options)
    assert all(torch.equal(*pair) for pair in zip(found, plain, strict=True))


@pytest.mark.parametrize("options", [{}, {"lora_rank": 4}, {"gradient_checkpointing": True}])
@pytest.mark.parametrize(
    ("types", "name"),
    [
        ({"precision": "bfloat16"}, attention.NAME),
        ({"dtype": "bfloat16", "lora_rank": 4}, attention.NAME),
        ({"precision": "float32"}, "sdpa"),
    ],
)
def test_policies_use_it_in_lower_precision_only(tiny_model, monkeypatch, types, name, options):
    seen = []
    original = torch.nn.functional.scaled_dot_product_attention

    def spy(query, key, value, **given):
        out = original(query, key, value, **given)
        seen.append(out.dtype)
        return out

    policy = make_policy(tiny_model, **{**types, **options})
    assert policy.model.config._attn_implementation == name
    with policy.training_mode(True):
        out = policy.evaluate(mixed_decisions())
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    out.log_probs.sum().backward()
    assert all(parameter.grad is not None for parameter in policy.parameters())
    assert (torch.float32 in seen) == (name == attention.NAME or "gradient_checkpointing" in options)
