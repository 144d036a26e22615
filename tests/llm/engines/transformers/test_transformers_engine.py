"""The in-process engine: samples depend only on seed and prompt, and new weights change them."""

import asyncio
import os
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from loop_toys import longest_silence
from transformers import AutoConfig, AutoModelForCausalLM

from reason_envs.batching import gather
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import GenerationRequest, Sampling, TrainableEngine
from reason_envs.llm.engines.transformers import decoding
from reason_envs.llm.engines.transformers.engine import TransformersEngine
from reason_envs.llm.loading import load_tokenizer

CHAT = [{"role": "user", "content": "What is 3 + 4?"}]


@pytest.fixture(scope="module")
def engine(tiny_model):
    return TransformersEngine(model=tiny_model, device="cpu")


@pytest.fixture
def own_engine(tiny_model):
    """Return an engine that a test may change."""
    return TransformersEngine(model=tiny_model, device="cpu")


def prompt(length, seed=0):
    return np.random.default_rng([length, seed]).integers(20, 1000, length).tolist()


def mixed_requests(count=32):
    """Different prompt lengths, sampling parameters and stop strings."""
    samplings = [
        Sampling(24),
        Sampling(7, temperature=0.5),
        Sampling(30, temperature=0.0),
        Sampling(20, top_p=0.8, temperature=1.3),
        Sampling(20, top_k=5),
        Sampling(25, stop=("1", "e ")),
    ]
    return [GenerationRequest(prompt(3 + 5 * i % 23), 100 + i, samplings[i % 6]) for i in range(count)]


def tokens(answers):
    return [[sample.token_ids for sample in samples] for samples in answers]


def assert_same(left, right):
    for ours, theirs in zip(left, right, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert (a.token_ids, a.text, a.finish_reason) == (b.token_ids, b.text, b.finish_reason)
            assert a.log_probs == pytest.approx(b.log_probs, abs=1e-4)


# --- a sample depends only on its seed and its prompt


def test_engine_samples_the_same_alone_and_in_a_batch(engine):
    requests = mixed_requests()
    together = engine.generate_batch(requests)
    alone = [engine.generate_batch([request])[0] for request in requests]
    assert tokens(together) == tokens(alone)
    assert_same(together, alone)
    assert len({tuple(t) for (t,) in tokens(together)}) == 32
    assert {g.finish_reason for (g,) in together} == {"stop", "length"}


def test_engine_samples_do_not_depend_on_order_and_chunks(engine, monkeypatch):
    requests = mixed_requests()
    expected = engine.generate_batch(requests)
    assert_same(engine.generate_batch(requests[::-1])[::-1], expected)
    monkeypatch.setattr(engine.config, "max_batch_size", 5)
    assert_same(engine.generate_batch(requests), expected)


@pytest.mark.parametrize("below", [0.0, 1.1])
def test_engine_samples_do_not_depend_on_dropped_rows(engine, monkeypatch, below):
    requests = mixed_requests()
    expected = engine.generate_batch(requests)
    rows = []
    forward = engine.decoder.forward
    monkeypatch.setattr(engine.decoder, "forward", lambda ids, *rest: rows.append(len(ids)) or forward(ids, *rest))
    monkeypatch.setattr(decoding, "COMPACT_BELOW", below)
    assert_same(engine.generate_batch(requests), expected)
    assert (rows[-1] == 32) == (below == 0.0)


def test_engine_cache_grows_beyond_its_spare_room(engine, monkeypatch):
    request = GenerationRequest(prompt(5), 3, Sampling(40))
    expected = engine.generate_batch([request])
    monkeypatch.setattr(decoding, "CACHE_SPARE", 3)
    assert_same(engine.generate_batch([request]), expected)


def test_engine_samples_depend_on_their_index_and_not_on_n(engine):
    many = engine.generate_batch([GenerationRequest(prompt(6), 11, Sampling(12), n=8)])[0]
    few = engine.generate_batch([GenerationRequest(prompt(6), 11, Sampling(12), n=3)])[0]
    assert [g.token_ids for g in many[:3]] == [g.token_ids for g in few]
    assert len({tuple(g.token_ids) for g in many}) == 8


def test_engine_reads_a_shared_prompt_once(engine, monkeypatch):
    shapes = []
    forward = engine.decoder.forward
    monkeypatch.setattr(
        engine.decoder, "forward", lambda ids, *rest: shapes.append(tuple(ids.shape)) or forward(ids, *rest)
    )
    requests = [GenerationRequest(prompt(9), s, Sampling(4), n=4) for s in range(3)]
    engine.generate_batch([*requests, GenerationRequest(prompt(5), 0, Sampling(4))])
    assert shapes[0] == (2, 9)
    assert shapes[1] == (13, 1)


# --- tokens and log-probabilities are those of the model


def test_engine_greedy_equals_transformers_generate(engine):
    ids = [prompt(4), prompt(11), prompt(7)]
    ours = engine.generate_batch([GenerationRequest(p, 0, Sampling(16, temperature=0.0)) for p in ids])
    for p, (sample,) in zip(ids, ours, strict=True):
        with torch.inference_mode():
            theirs = engine.model.generate(torch.tensor([p]), do_sample=False, max_new_tokens=16)[0, len(p) :]
        assert sample.token_ids == theirs.tolist()


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_engine_log_probs_equal_those_of_a_forward_pass(engine, temperature):
    requests = [GenerationRequest(prompt(4 + i), i, Sampling(15, temperature, top_p=0.9), n=2) for i in range(4)]
    for sample in [s for samples in engine.generate_batch(requests) for s in samples]:
        ids = [*sample.prompt_ids, *sample.token_ids]
        scores = asyncio.run(engine.score(ids, len(sample.prompt_ids), temperature))
        assert sample.log_probs == pytest.approx(scores, abs=1e-4)
        logits = engine.model(torch.tensor([ids])).logits[0].detach().double() / temperature
        expected = torch.log_softmax(logits, -1)[torch.arange(len(ids) - 1), ids[1:]][len(sample.prompt_ids) - 1 :]
        assert scores == pytest.approx(expected.tolist(), abs=1e-4)


def test_engine_applies_the_chat_template_to_messages(engine):
    (sample,) = engine.generate_batch([GenerationRequest(CHAT, 1, Sampling(3))])[0]
    assert engine.tokenizer.decode(sample.prompt_ids) == (
        "<|im_start|>user\nWhat is 3 + 4?<|im_end|>\n<|im_start|>assistant\n"
    )


def forced(engine, monkeypatch, ids):
    """Make the engine sample exactly these tokens."""
    script = iter(ids)

    def forward(rows, mask, positions, cache):
        logits = torch.full((len(rows), len(engine.tokenizer)), -1e9)
        logits[:, next(script)] = 0.0
        return logits

    monkeypatch.setattr(engine.decoder, "forward", forward)
    monkeypatch.setattr(decoding, "select_rows", lambda cache, rows: None)


@pytest.mark.parametrize(
    ("pieces", "stop", "text"),
    [
        (["12", " is", " it", " then"], ("is it",), "12 "),
        (["12", " is", " it", " then"], ("t th", "t"), "12 is i"),
        (["é", "ü", "x", "y"], ("üx",), "é"),
        (["a", "b", "\n", "c"], ("\n",), "ab"),
    ],
)
def test_engine_cuts_text_at_stop_strings_and_keeps_their_tokens(engine, monkeypatch, pieces, stop, text):
    ids = [i for piece in pieces for i in engine.tokenizer.encode(piece, add_special_tokens=False)]
    forced(engine, monkeypatch, ids)
    (sample,) = engine.generate_batch([GenerationRequest(prompt(3), 0, Sampling(len(ids), stop=stop))])[0]
    assert sample.text == text
    assert sample.finish_reason == "stop"
    assert sample.token_ids == ids[: len(sample.token_ids)]
    decoded = engine.tokenizer.decode(sample.token_ids)
    assert sample.stop_string in stop
    assert decoded.startswith(text + sample.stop_string)
    assert any(s in decoded for s in stop)
    assert not any(s in engine.tokenizer.decode(sample.token_ids[:-1]) for s in stop)


def test_engine_ends_at_eos_and_at_max_tokens(engine, monkeypatch):
    eos = engine.tokenizer.eos_token_id
    word = engine.tokenizer.encode("7", add_special_tokens=False)[0]
    forced(engine, monkeypatch, [word, word, eos, word])
    (ended,) = engine.generate_batch([GenerationRequest(prompt(3), 0, Sampling(9))])[0]
    assert (ended.token_ids, ended.text, ended.finish_reason) == ([word, word, eos], "77", "stop")
    assert ended.stop_string is None
    forced(engine, monkeypatch, [word, word, eos])
    (cut,) = engine.generate_batch([GenerationRequest(prompt(3), 0, Sampling(2))])[0]
    assert (cut.token_ids, cut.finish_reason) == ([word, word], "length")
    forced(engine, monkeypatch, [word, eos])
    (both,) = engine.generate_batch([GenerationRequest(prompt(3), 0, Sampling(2))])[0]
    assert both.finish_reason == "stop"


# --- counting and batching


def test_engine_counts_all_tokens(own_engine):
    answers = own_engine.generate_batch([*mixed_requests(6), GenerationRequest(prompt(3), 0, Sampling(5), n=3)])
    samples = [s for group in answers for s in group]
    assert own_engine.generated_tokens == sum(len(s.token_ids) for s in samples)
    assert [s.generated_tokens for s in samples] == [len(s.log_probs) for s in samples]


def test_engine_answers_waiting_requests_with_one_call(own_engine):
    requests = mixed_requests(10)

    async def ask():
        scoped = await gather(*(own_engine.generate(r) for r in requests))
        loose = await asyncio.gather(*(own_engine.generate(r) for r in requests))
        return scoped, loose

    scoped, loose = asyncio.run(ask())
    assert own_engine.batcher.calls == 2
    assert own_engine.batcher.requests == 20
    assert_same(scoped, loose)


def test_engine_leaves_the_event_loop_free_while_it_generates(own_engine):
    """The control calls the decoder in the event loop, which is then silent all the time."""
    requests = [GenerationRequest(prompt(6, seed), seed, Sampling(300)) for seed in range(32)]
    answers = []

    async def here():
        answers.append(own_engine.generate_batch(requests))

    async def in_a_thread():
        answers.append(await gather(*(own_engine.generate(request) for request in requests)))

    blocked, free = (asyncio.run(longest_silence(generate())) for generate in (here, in_a_thread))
    assert free < blocked / 2
    assert answers[0] == answers[1]  # bit for bit


def test_engine_ends_a_batch_within_a_token_when_its_callers_are_cancelled(engine, monkeypatch):
    forward, started, go_on, passes = engine.decoder.forward, threading.Event(), threading.Event(), []

    def held(*inputs):
        passes.append(inputs)
        started.set()
        go_on.wait(20)
        return forward(*inputs)

    monkeypatch.setattr(engine.decoder, "forward", held)

    async def cancel():
        requests = [GenerationRequest(prompt(5), seed, Sampling(40)) for seed in range(4)]
        playing = asyncio.create_task(gather(*(engine.generate(request) for request in requests)))
        await asyncio.to_thread(started.wait)
        playing.cancel()
        await asyncio.sleep(0.01)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await playing

    asyncio.run(cancel())
    assert len(passes) == 1
    monkeypatch.setattr(engine.decoder, "forward", forward)
    assert tokens(engine.generate_batch(mixed_requests())) == tokens(engine.generate_batch(mixed_requests()))


# --- weights


def test_load_weights_changes_samples_and_reports_the_version(own_engine):
    request = GenerationRequest(prompt(5), 1, Sampling(10))
    (before,) = own_engine.generate_batch([request])[0]
    state = {name: tensor.clone() for name, tensor in own_engine.model.state_dict().items()}
    own_engine.load_weights({name: tensor * 1.5 for name, tensor in state.items()}, version=7)
    (after,) = own_engine.generate_batch([request])[0]
    own_engine.load_weights(state, version=8)
    (restored,) = own_engine.generate_batch([request])[0]
    assert before.log_probs != after.log_probs
    assert before.log_probs == restored.log_probs
    assert [g.policy_version for g in (before, after, restored)] == [0, 7, 8]


def test_engine_generates_in_bfloat16(tiny_model, engine):
    coarse = TransformersEngine(model=tiny_model, device="cpu", dtype="bfloat16")
    assert coarse.dtype == torch.bfloat16
    request = GenerationRequest(prompt(5), 1, Sampling(5))
    (sample,) = coarse.generate_batch([request])[0]
    exact = asyncio.run(engine.score([*sample.prompt_ids, *sample.token_ids], 5))
    assert sample.log_probs == pytest.approx(exact, abs=0.5)
    assert sample.log_probs != pytest.approx(exact, abs=1e-4)


def test_engine_is_trainable(engine):
    assert isinstance(engine, TrainableEngine)
    assert {"log_probs", "trainable"} == engine.capabilities
    assert engine.context_length == 512


# --- closing


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell the memory in use")
def test_close_frees_the_model(tiny_model, tmp_path):
    config = AutoConfig.from_pretrained(tiny_model, hidden_size=256, intermediate_size=32768)
    with torch.random.fork_rng():
        model = AutoModelForCausalLM.from_config(config)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    model.save_pretrained(tmp_path)
    load_tokenizer(tiny_model).save_pretrained(tmp_path)
    del model
    before = resident_bytes()
    engine = TransformersEngine(model=str(tmp_path), device="cpu")
    engine.generate_batch(mixed_requests(4))
    weights = [weakref.ref(parameter) for parameter in engine.model.parameters()]
    loaded = resident_bytes()
    engine.close()
    assert size > 2e8
    assert [weight for weight in weights if weight() is not None] == []
    assert loaded - before > 0.8 * size
    assert loaded - resident_bytes() > 0.8 * size


def test_close_makes_later_requests_fail(own_engine):
    own_engine.close()
    own_engine.close()
    for use in (
        lambda: asyncio.run(own_engine.generate(GenerationRequest(prompt(3), 0))),
        lambda: asyncio.run(own_engine.score([5, 6], 1)),
        lambda: own_engine.load_weights({}, 1),
        own_engine.weights_digest,
    ):
        with pytest.raises(ReasonEnvsError, match=r"TransformersEngine is closed\. Build a new one"):
            use()


# --- invalid requests


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (GenerationRequest([5], 0, adapter="solver"), "Use the engine vllm"),
        (GenerationRequest([], 0), "prompt is empty"),
        (GenerationRequest([5] * 500, 0, Sampling(20)), "512"),
    ],
)
def test_engine_refuses_invalid_requests(engine, request_, message):
    with pytest.raises(ReasonEnvsError, match=message):
        engine.generate_batch([request_])


def test_request_refuses_zero_samples():
    with pytest.raises(ReasonEnvsError, match="n=0"):
        GenerationRequest([5], 0, n=0)
