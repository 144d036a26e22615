"""Servers that break the protocol: every odd answer is read or is an `EngineError`, in short time."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from openai_server import Server, choice, completion, reply

from reason_envs.errors import EngineError
from reason_envs.llm.engine import GenerationRequest
from reason_envs.llm.engines.openai.engine import OpenAIEngine

REQUEST = GenerationRequest([{"role": "user", "content": "Hello"}], seed=0)
BIG = "9" * 5000


def message(content):
    return completion({"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"})


def usage(prompt, completed):
    return (
        json.dumps(message("ok"))
        .replace('"prompt_tokens": 5', f'"prompt_tokens": {prompt}')
        .replace('"completion_tokens": 3', f'"completion_tokens": {completed}')
    )


READ = {
    "parts": (message([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab"),
    "reasoning parts": (message([{"type": "thinking", "thinking": "?"}, {"type": "text", "text": "b"}]), "b"),
    "no parts": (message([]), ""),
    "null": (message(None), ""),
    "a lone surrogate": (message("a\ud800b"), "a?b"),
    "extra fields": ({**message("ok"), "x": {"y": [1e308]}}, "ok"),
    "null token ids": (completion(choice(token_ids=None)), "ok"),
    "token ids": (completion(choice(token_ids=[1, 2])), "ok"),
    "no tokens": (completion(choice(""), completion_tokens=0), ""),
    "plain text": (completion({"index": 0, "text": "ok", "finish_reason": "stop"}), "ok"),
    "a stop reason that is a number": (completion(choice(stop_reason=7)), "ok"),
    "more choices than asked": (completion(choice("a"), choice("b", index=1)), "a"),
}
REFUSED = {
    "empty body": "",
    "text": "hello",
    "HTML": "<html>502</html>",
    "a list": "[]",
    "a number": "7",
    "null": "null",
    "cut JSON": json.dumps(completion())[:40],
    "deep JSON": "[" * 100_000 + "]" * 100_000,
    "a deep field": json.dumps(completion()).replace('"ok"', "[" * 700 + "]" * 700),
    "a number of 5,000 digits": usage(BIG, 3),
    "negative prompt tokens": usage(-1, 3),
    "negative completion tokens": usage(5, -3),
    "too many tokens": usage("1" + "0" * 400, 3),
    "tokens as text": usage('"5"', 3),
    "tokens with a fraction": usage(5, 2.5),
    "infinite tokens": usage(5, "Infinity"),
    "NaN tokens": usage("NaN", 3),
    "no usage": {"choices": [choice()]},
    "usage as list": {**completion(), "usage": []},
    "no choices": {**completion(), "choices": []},
    "choices as mapping": {**completion(), "choices": {"a": 1}},
    "choices as text": {**completion(), "choices": "abc"},
    "choices as number": {**completion(), "choices": 7},
    "choices of numbers": {**completion(), "choices": [1]},
    "null choices": {**completion(), "choices": None},
    "no index": {**completion(), "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}] * 2},
    "indices of two kinds": completion(choice(), choice(index="1")),
    "no message": completion({"index": 0, "finish_reason": "stop"}),
    "message as text": completion({"index": 0, "message": "ok", "finish_reason": "stop"}),
    "null message": completion({"index": 0, "message": None, "finish_reason": "stop"}),
    "content as number": message(7),
    "content as mapping": message({"text": "ok"}),
    "parts without type": message([{"text": "ok"}]),
    "parts of numbers": message([1, 2]),
    "parts with numbers": message([{"type": "text", "text": 5}]),
    "text as list of lists": message([["ok"]]),
    "no finish reason": completion(choice(finish_reason=None)),
    "finish reason of another type": completion(choice(finish_reason=["stop"])),
    "unknown finish reason": completion(choice(finish_reason="magic")),
    "a long finish reason": completion(choice(finish_reason="x" * 10**6)),
    "token ids as text": completion(choice(token_ids="abc")),
    "token ids as numbers with fraction": completion(choice(token_ids=[1.5])),
    "negative token ids": completion(choice(token_ids=[-1])),
    "token ids as truth values": completion(choice(token_ids=[True])),
    "huge token ids": completion(choice(token_ids=[10**100])),
    "token ids as mapping": completion(choice(token_ids={"a": 1})),
    "token ids as number": completion(choice(token_ids=5)),
    "prompt ids as text": completion(choice(prompt_token_ids="abc")),
}
LOG_PROBS = {
    "missing": None,
    "a number": 7,
    "text": "abc",
    "content as text": {"content": "abc"},
    "null values": {"content": [{"logprob": None}]},
    "text values": {"content": [{"logprob": "-0.1"}]},
    "infinite values": {"token_logprobs": [float("-inf")]},
    "NaN values": {"token_logprobs": [float("nan")]},
    "positive values": {"token_logprobs": [3.0]},
    "values as number": {"token_logprobs": 5},
}
STATUS = {
    "deep error": (500, "[" * 50_000, {}),
    "error as number": (400, "7", {}),
    "an unknown status": (499, "", {}),
    "wrong charset": (500, "x", {"Content-Type": "text/html; charset=nonsense"}),
    "no gzip": (200, json.dumps(completion()), {"Content-Encoding": "gzip"}),
    "Retry-After of words": (503, "", {"Retry-After": "soon"}),
    "negative Retry-After": (503, "", {"Retry-After": "-5"}),
    "endless Retry-After": (503, "", {"Retry-After": "inf"}),
    "Retry-After that is no number": (503, "", {"Retry-After": "nan"}),
    "long Retry-After": (503, "", {"Retry-After": BIG}),
    "impossible date": (503, "", {"Retry-After": "Wed, 99 Foo 99999 99:99:99 GMT"}),
    "date without end": (503, "", {"Retry-After": "Wed, 01 Jan 999999999999 00:00:00 GMT"}),
    "redirect to itself": (302, "", {"Location": "/v1/chat/completions"}),
    "redirect to nowhere": (302, "", {"Location": "http://127.0.0.1:1/"}),
    "no content": (204, "", {}),
    "an unknown model": (404, "{}", {}),
}


@pytest.fixture(scope="module")
def server():
    opened = Server()
    yield opened
    opened.close()


def ask(server, answer, **options):
    server.script = lambda body, number: answer
    engine = OpenAIEngine(model="m", base_url=server.url, max_retries=1, backoff_s=0.0, timeout_s=5.0, **options)
    start = time.monotonic()
    try:
        (generation,) = asyncio.run(engine.generate(REQUEST))
    finally:
        engine.close()
        assert time.monotonic() - start < 6
    return generation


@pytest.mark.parametrize("name", READ)
def test_unusual_answers_are_read(server, name):
    body, text = READ[name]
    assert ask(server, reply(body=body)).text == text


@pytest.mark.parametrize("name", REFUSED)
def test_odd_answers_are_engine_errors(server, name):
    with pytest.raises(EngineError) as error:
        ask(server, reply(body=REFUSED[name]))
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("name", LOG_PROBS)
def test_odd_log_probabilities_are_engine_errors(server, name):
    with pytest.raises(EngineError):
        ask(server, reply(body=completion(choice(logprobs=LOG_PROBS[name]))), request_log_probs=True)


@pytest.mark.parametrize("name", STATUS)
def test_odd_statuses_and_headers_are_engine_errors(server, name):
    status, body, headers = STATUS[name]
    with pytest.raises(EngineError):
        ask(server, reply(status, body, headers))


@pytest.mark.parametrize("models", [[None], [{"a": 1}], [7], ["x" * 10**5]], ids=["null", "mapping", "number", "long"])
def test_odd_lists_of_models_are_engine_errors(server, models, monkeypatch):
    monkeypatch.setattr(server, "models", models)
    with pytest.raises(EngineError) as error:
        ask(server, reply(404, {}))
    assert len(str(error.value)) < 1000
