"""The engine that answers from a record."""

import asyncio
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_engine import ScriptedEngine

from reason_envs.batching import gather
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import make_engine
from reason_envs.llm.engine import Capability, Engine, GenerationRequest, Sampling
from reason_envs.llm.engines.recorded.engine import RecordedEngine

CHAT = [{"role": "user", "content": "hé"}]
STEP = Sampling(12, 0.8, stop=("\n",))


def request(seed=0, prompt=None, sampling=STEP, n=1):
    return GenerationRequest(prompt or [1, 2], seed, sampling, n)


def ask(engine, *requests):
    async def together():
        return await gather(*(engine.generate(r) for r in requests))

    return asyncio.run(together())


class Forbidden(ScriptedEngine):
    """A live engine that must not receive requests."""

    def __init__(self):
        super().__init__("")
        self._script = self._refuse

    def _refuse(self, request, seed):
        raise AssertionError("asked")


def live_engine():
    return ScriptedEngine(lambda request, seed: f"{seed % 1000}\nmore" if seed % 2 else f"end {seed % 10}")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "record.jsonl")


def test_recorded_engine_replays_the_answers_of_the_live_engine(path):
    requests = [request(s) for s in range(20)] + [request(99, CHAT, n=3), request(100, CHAT, Sampling(2))]
    live = live_engine()
    expected = [live.generate_batch([r])[0] for r in requests]
    recording = RecordedEngine(path=path, live=live)
    assert ask(recording, *requests) == expected
    assert {g.stop_string for (g, *_) in expected} == {"\n", None}
    recording.close()
    replay = RecordedEngine(path=path)
    assert ask(replay, *reversed(requests)) == expected[::-1]
    assert replay.generated_tokens == sum(g.generated_tokens for samples in expected for g in samples)
    assert replay.capabilities == {Capability.LOG_PROBS}


def test_recorded_engine_asks_the_live_engine_once_per_request(path):
    recording = RecordedEngine(path=path, live=live_engine())
    ask(recording, *(request(s) for s in range(8)))
    assert (recording.live.batcher.calls, recording.live.batcher.requests) == (1, 8)
    ask(recording, *(request(s) for s in range(10)), request(9))
    assert (recording.live.batcher.calls, recording.live.batcher.requests) == (2, 11)
    assert len(recording.record) == 10


def test_recorded_engine_answers_missing_requests_with_exhausted(path):
    ask(RecordedEngine(path=path, live=live_engine()), request(1))
    replay = make_engine("recorded", path=path)
    assert [replay.can_answer(1), replay.can_answer(2)] == [True, False]
    ((held,), missing, more) = ask(replay, request(1), request(2, n=2), request(1, n=2))
    assert held.finish_reason == "stop"
    for generation in (*missing, *more):
        assert (generation.finish_reason, generation.text, generation.token_ids) == ("exhausted", "", [])
    assert len(missing) == 2
    assert replay.generated_tokens == held.generated_tokens


@pytest.mark.parametrize(
    "other",
    [
        request(1, [1, 3]),
        request(1, CHAT),
        request(1, sampling=Sampling(12, 0.7, stop=("\n",))),
        request(1, sampling=Sampling(12, 0.8)),
        GenerationRequest([1, 2], 1, STEP, adapter="solver"),
    ],
)
def test_recorded_engine_refuses_another_request_with_a_recorded_seed(path, other):
    recording = RecordedEngine(path=path, live=live_engine())
    ask(recording, request(1))
    for engine in (recording, RecordedEngine(path=path)):
        with pytest.raises(ReasonEnvsError, match="has another request with seed 1"):
            ask(engine, other)


def test_recorded_engine_refuses_to_continue_the_record_of_another_model(path):
    RecordedEngine(path=path, live=live_engine())
    with pytest.raises(ReasonEnvsError, match=r"'ScriptedEngine'.*'Forbidden'"):
        RecordedEngine(path=path, live=Forbidden())


@given(
    st.lists(st.floats(-30, 0, width=32), max_size=5),
    st.text(max_size=8),
    st.lists(st.integers(0, 2**20), max_size=5),
)
def test_recorded_engine_preserves_all_fields(tmp_path_factory, log_probs, text, token_ids):
    class Other(ScriptedEngine):
        def generate_batch(self, requests):
            (samples,) = super().generate_batch(requests)
            values = {"text": text, "token_ids": token_ids, "log_probs": log_probs, "usage_tokens": 7}
            return [[type(s)(**{**vars(s), **values, "policy_version": 3}) for s in samples]]

    path = str(tmp_path_factory.mktemp("fields") / "record.jsonl")
    engine = Other("any")
    assert ask(RecordedEngine(path=path, live=engine), request(5)) == engine.generate_batch([request(5)])
    assert ask(RecordedEngine(path=path), request(5)) == engine.generate_batch([request(5)])


def test_recorded_engine_closes_the_live_engine(path):
    class Closing(ScriptedEngine):
        closed = False

        def close(self):
            self.closed = True

    live = Closing("a")
    RecordedEngine(path=path, live=live).close()
    assert live.closed
    assert isinstance(RecordedEngine(path=path), Engine)


def test_recorded_engine_refuses_invalid_options(path):
    with pytest.raises(ReasonEnvsError, match=r"^path='' must be the path of a record"):
        make_engine("recorded")
    with pytest.raises(ReasonEnvsError, match="does not exist"):
        make_engine("recorded", path=path)
    with pytest.raises(ReasonEnvsError, match="Unknown engine 'scripted'"):
        make_engine("recorded", path=path, live="scripted")


def test_recorded_engine_identifies_the_model_by_its_weights(path, tiny_model):
    live = {"name": "transformers", "model": tiny_model, "device": "cpu"}
    recording = make_engine("recorded", path=path, live=live)
    expected = ask(recording, request(3, CHAT), request(4, [5, 6, 7]))
    replay = make_engine("recorded", path=path)
    assert ask(replay, request(3, CHAT), request(4, [5, 6, 7])) == expected
    assert replay.record.source["digest"] == recording.live.weights_digest()
    assert replay.record.source["model"] == tiny_model
    code = f"""
import asyncio, sys
from reason_envs.llm import make_engine
from reason_envs.llm.engine import GenerationRequest, Sampling
engine = make_engine("recorded", path={path!r})
request = GenerationRequest([5, 6, 7], 4, Sampling(12, 0.8, stop=("\\n",)))
assert asyncio.run(engine.generate(request))[0].token_ids == {expected[1][0].token_ids}
assert not {{"torch", "transformers"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
