"""Grouped attention: the numbers of attention with repeated keys and values."""

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from reason_envs.llm.engine import GenerationRequest, Sampling
from reason_envs.llm.engines.transformers import grouped_attention
from reason_envs.llm.engines.transformers.engine import TransformersEngine


@pytest.mark.parametrize(("heads", "groups"), [(4, 2), (6, 1), (3, 3)])
@pytest.mark.parametrize("new", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_grouped_attention_equals_attention_with_repeated_keys(heads, groups, new, masked, biased):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(5, heads, new, 8, generator=generator)
    key, value = (torch.randn(5, groups, 7, 8, generator=generator) for _ in range(2))
    mask = None
    if masked:
        mask = torch.arange(7)[None, None, None, :] >= torch.arange(5)[:, None, None, None]
        mask = mask.expand(5, 1, new, 7)
    layer = torch.nn.Module().eval()
    layer.num_key_value_groups, layer.is_causal = heads // groups, False
    bias = torch.randn(5, heads, new, 7, generator=generator) if biased else None
    options = {"scaling": 0.3, "position_bias": bias}
    ours, weights = grouped_attention.grouped_attention(layer, query, key, value, mask, **options)
    theirs, _ = sdpa_attention_forward(layer, query, key, value, mask, **options)
    assert weights is None
    assert ours.shape == theirs.shape == (5, new, heads, 8)
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(("attention", "name"), [("sdpa", grouped_attention.NAME), ("eager", "eager")])
def test_grouped_attention_is_the_default_of_the_engine(tiny_model, attention, name):
    engine = TransformersEngine(model=tiny_model, device="cpu", attention=attention)
    assert engine.model.config._attn_implementation == name


def test_grouped_attention_gives_the_samples_of_sdpa(tiny_model):
    engine = TransformersEngine(model=tiny_model, device="cpu")
    requests = [GenerationRequest([5 + i] * (1 + i), seed=i, sampling=Sampling(12), n=2) for i in range(4)]
    grouped = engine.generate_batch(requests)
    engine.model.set_attn_implementation("sdpa")
    plain = engine.generate_batch(requests)
    assert [[g.token_ids for g in row] for row in grouped] == [[g.token_ids for g in row] for row in plain]
