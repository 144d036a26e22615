"""Prefix caches: a request that continues an earlier sample reads only its last token and gets the same answer."""

import gc

import numpy as np
import pytest
import torch
from transformers import MistralConfig, Qwen3Config

from reason_envs.llm.engine import GenerationRequest, Sampling
from reason_envs.llm.engines.transformers.engine import TransformersEngine
from reason_envs.llm.prefix_cache import PrefixStore

SAMPLING = Sampling(9, stop=("1",))


@pytest.fixture
def engine(tiny_model):
    return TransformersEngine(model=tiny_model, device="cpu")


@pytest.fixture
def widths(engine, monkeypatch):
    """Shape [rows, tokens] of every forward pass."""
    seen, forward = [], engine.decoder.forward
    monkeypatch.setattr(
        engine.decoder, "forward", lambda ids, *rest: seen.append(tuple(ids.shape)) or forward(ids, *rest)
    )
    return seen


def prompt(length, seed=0):
    return np.random.default_rng([length, seed]).integers(20, 1000, length).tolist()


def asked(ids, seed, prefix_cache=None, keep=True, n=1):
    return GenerationRequest(ids, seed, SAMPLING, n, keep_prefix=keep, prefix_cache=prefix_cache)


def assert_equal(kept, plain):
    assert [g.token_ids for g in kept] == [g.token_ids for g in plain]
    for ours, theirs in zip(kept, plain, strict=True):
        assert ours.log_probs == pytest.approx(theirs.log_probs, abs=1e-4)


def grow(engine, depth=4):
    """Extend several prompts step by step, with siblings. Return the samples with prefix caches and without."""
    tips = [(prompt(5 + 3 * i), None) for i in range(6)]
    kept, plain = [], []
    for level in range(depth):
        requests = [asked(ids, 10 * level + i, prefix) for i, (ids, prefix) in enumerate(tips)]
        requests += [asked(ids, 500 + level + i, prefix) for i, (ids, prefix) in enumerate(tips[:3])]
        answers = [answer for (answer,) in engine.generate_batch(requests)]
        kept += answers
        plain += [a for (a,) in engine.generate_batch([asked(r.prompt, r.seed, keep=False) for r in requests])]
        tips = [(r.prompt + a.token_ids, a.prefix_cache) for r, a in zip(requests[3:], answers[3:], strict=True)]
    return kept, plain


def test_prefix_cache_does_not_change_samples(engine):
    kept, plain = grow(engine)
    assert_equal(kept, plain)
    assert all(g.prefix_cache is None for g in plain)
    assert {g.finish_reason for g in kept} == {"stop", "length"}


def test_prefix_cache_leaves_one_token_to_read(engine, widths):
    ids = prompt(12)
    ((first,),) = engine.generate_batch([asked(ids, 1)])
    assert widths[:2] == [(1, 11), (1, 1)]
    widths.clear()
    engine.generate_batch(
        [asked(ids + first.token_ids, 2, first.prefix_cache), asked(ids, 3, first.prompt_prefix_cache)]
    )
    assert {width for _, width in widths} == {1}


@pytest.mark.parametrize("between", [4, 100])
def test_prefix_cache_allows_tokens_between(engine, widths, between):
    ids = prompt(12)
    ((first,),) = engine.generate_batch([asked(ids, 1)])
    longer = ids + first.token_ids + prompt(between, seed=7)
    widths.clear()
    ((kept,),) = engine.generate_batch([asked(longer, 2, first.prefix_cache)])
    assert widths[0] == (1, between)
    assert_equal([kept], engine.generate_batch([asked(longer, 2, keep=False)])[0])


def test_prefix_cache_of_a_prompt_is_shared_by_its_samples(engine):
    (answers,) = engine.generate_batch([asked(prompt(8), 1, n=3)])
    assert len({id(answer.prompt_prefix_cache) for answer in answers}) == 1
    assert [answer.prefix_cache.length for answer in answers] == [7 + len(answer.token_ids) for answer in answers]


def test_load_weights_clears_the_prefix_cache(engine, widths):
    ids = prompt(12)
    ((first,),) = engine.generate_batch([asked(ids, 1)])
    engine.load_weights({k: v.clone() + 0.01 for k, v in engine.model.state_dict().items()}, version=1)
    widths.clear()
    request = asked(ids + first.token_ids, 2, first.prefix_cache)
    assert_equal(engine.generate_batch([request])[0], engine.generate_batch([asked(request.prompt, 2, keep=False)])[0])
    assert widths[0] == (1, 11 + len(first.token_ids))
    assert first.prefix_cache.states is None


def test_prefix_cache_of_another_engine_is_not_used(engine, tiny_model):
    ids = prompt(12)
    ((first,),) = TransformersEngine(model=tiny_model, device="cpu").generate_batch([asked(ids, 1)])
    assert engine.prefixes.usable(first.prefix_cache, 100) is None


def test_prefix_cache_memory_is_limited_and_freed(engine):
    ((one,),) = engine.generate_batch([asked(prompt(12), 1)])
    size = engine.prefixes.held_bytes
    assert size == sum(part.states.nbytes for part in one.prefix_cache.chain())
    engine.prefixes.limit_bytes = size
    ((other,),) = engine.generate_batch([asked(prompt(12, seed=1), 2)])
    assert engine.prefixes.held_bytes <= size
    assert one.prefix_cache.states is None
    assert_equal(
        engine.generate_batch([asked(prompt(12) + one.token_ids, 3, one.prefix_cache)])[0],
        engine.generate_batch([asked(prompt(12) + one.token_ids, 3, keep=False)])[0],
    )
    del one, other
    gc.collect()
    assert engine.prefixes.held_bytes == 0


def test_prefix_store_frees_unused_leaves_before_the_root_that_all_need():
    store = PrefixStore(Qwen3Config(num_hidden_layers=2), 1 << 20)
    root = store.add(None, torch.zeros(4, 2, 8, 4))
    leaves = [store.add(root, torch.zeros(4, 2, 3, 4)) for _ in range(3)]
    below = store.add(leaves[0], torch.zeros(4, 2, 2, 4))
    assert store.usable(leaves[1], 100) is leaves[1]
    store.limit_bytes = sum(part.states.nbytes for part in (root, leaves[1], leaves[0]))
    store.trim()  # `leaves[2]` and `below` were used before `leaves[1]`
    assert store.held_bytes == store.limit_bytes
    assert store.reread_tokens == 0
    assert [store.usable(prefix, 100) for prefix in (leaves[1], leaves[2], below)] == [leaves[1], root, leaves[0]]
    assert store.reread_tokens == 3 + 2
    assert store.usable(leaves[0], 10) is root  # it leaves no token to read
    store.trim(0)
    assert [store.usable(prefix, 100) for prefix in (root, *leaves, below)] == [None] * 5


def test_prefix_cache_reads_a_path_from_the_part_that_is_left(engine, widths):
    ids = prompt(12)
    ((first,),) = engine.generate_batch([asked(ids, 1)])
    engine.prefixes.limit_bytes = engine.prefixes.held_bytes - 1
    engine.prefixes.trim()
    assert first.prefix_cache.states is None
    longer = ids + first.token_ids + prompt(4, seed=7)
    widths.clear()
    ((kept,),) = engine.generate_batch([asked(longer, 2, first.prefix_cache)])
    assert widths[0] == (1, len(longer) - 12)  # all tokens but those of the prompt, and the last one
    assert engine.reread_tokens == len(first.token_ids)
    assert_equal([kept], engine.generate_batch([asked(longer, 2, keep=False)])[0])


@pytest.mark.parametrize("limit", [0.3, 0.6])
def test_prefix_cache_is_not_freed_during_a_batch(engine, monkeypatch, limit):
    monkeypatch.setattr(engine.config, "max_batch_size", 4)
    kept, _ = grow(engine)
    engine.prefixes.limit_bytes = int(limit * engine.prefixes.held_bytes)
    del kept
    assert_equal(*grow(engine, depth=6))


def test_prefix_cache_can_be_disabled(tiny_model):
    engine = TransformersEngine(model=tiny_model, device="cpu", prefix_cache_mb=0)
    assert engine.generate_batch([asked(prompt(5), 1)])[0][0].prefix_cache is None


def test_prefix_store_is_disabled_for_layers_that_discard_tokens():
    assert PrefixStore(Qwen3Config(num_hidden_layers=2), 1 << 20).enabled
    assert not PrefixStore(MistralConfig(num_hidden_layers=2, sliding_window=8), 1 << 20).enabled


def test_prefix_cache_supports_a_prompt_of_one_token(engine):
    ((first,),) = engine.generate_batch([asked([50], 1)])
    assert first.prompt_prefix_cache is None
    assert torch.is_tensor(first.prefix_cache.states)
    assert_equal([first], engine.generate_batch([asked([50], 1, keep=False)])[0])
