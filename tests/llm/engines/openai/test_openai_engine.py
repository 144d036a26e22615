"""The engine for OpenAI-compatible servers, against a scripted server on loopback."""

import asyncio
import gc
import logging
import subprocess
import sys
import threading
import time
import warnings
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_server import Server, choice, completion, reply

from reason_envs.batching import gather
from reason_envs.errors import EngineError, ReasonEnvsError
from reason_envs.llm import ENGINES, make_engine
from reason_envs.llm.engine import ContextLengthError, Engine, Generation, GenerationRequest, Sampling, TrainableEngine
from reason_envs.llm.engines.openai.options import OpenAIEngineConfig
from reason_envs.llm.engines.openai.responses import share
from reason_envs.llm.engines.openai.transport import MAX_BACKOFF_S, backoff, retry_after

CHAT = [{"role": "user", "content": "What is 1 + 1?"}]
SECRET = "sk-very-secret-0123456789"
OK = "ok"


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def make(server):
    """Build engines for the scripted server with short waits."""
    engines = []

    def build(**options):
        defaults = {"model": "served", "base_url": server.url, "backoff_s": 0.001, "max_retries": 2, "timeout_s": 10}
        engines.append(make_engine("openai", **{**defaults, **options}))
        return engines[-1]

    yield build
    for engine in engines:
        engine.close()


def ask(engine, n=1, seed=7, prompt=CHAT, **sampling):
    return asyncio.run(engine.generate(GenerationRequest(prompt, seed, Sampling(**sampling), n)))


def fails(engine, **options):
    with pytest.raises(ReasonEnvsError) as caught:
        ask(engine, **options)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return str(caught.value)


def in_turn(*answers):
    """Return a script that gives the answers in order and repeats the last one."""
    return lambda body, number: answers[min(number, len(answers) - 1)]


# --- requests and responses


def test_openai_engine_sends_one_request_and_reads_one_answer(server, make):
    engine = make()
    answer = ask(engine, max_tokens=9, temperature=0.5, top_p=0.9, stop=("\n",))
    assert answer == [Generation("ok", [], None, "stop", 0, [], usage_tokens=3, usage_prompt_tokens=5)]
    assert answer[0].generated_tokens == engine.generated_tokens == 3
    assert engine.prompt_tokens == 5
    (body,) = server.bodies
    assert 0 <= body.pop("seed") < 2**31
    assert body == {
        "model": "served",
        "messages": CHAT,
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["\n"],
    }
    assert server.paths == ["/v1/chat/completions"]


def test_openai_engine_sends_the_seed_of_the_request(server, make):
    for seed in (7, 7, 8):
        ask(make(), seed=seed)
    first, again, other = [body["seed"] for body in server.bodies]
    assert first == again != other


def test_openai_engine_sends_optional_fields(server, make):
    engine = make(max_tokens_field="max_completion_tokens", extra_body={"return_token_ids": True})
    ask(engine, top_k=4, max_tokens=6)
    (body,) = server.bodies
    assert body["max_completion_tokens"] == 6
    assert "max_tokens" not in body
    assert body["top_k"] == 4
    assert body["return_token_ids"] is True


def test_openai_engine_reads_token_ids_of_the_server(server, make):
    server.script = in_turn(reply(body=completion(choice(token_ids=[4, 5, 2]), prompt_token_ids=[1, 9])))
    (answer,) = ask(make())
    assert (answer.token_ids, answer.prompt_ids, answer.usage_tokens, answer.generated_tokens) == (
        [4, 5, 2],
        [1, 9],
        None,
        3,
    )


def test_openai_engine_sends_token_ids_to_completions(server, make):
    plain = {"index": 0, "text": "ok", "finish_reason": "length", "logprobs": {"token_logprobs": [-1.0, -2.0, -3.0]}}
    server.script = in_turn(reply(body=completion(plain)))
    (answer,) = ask(make(request_log_probs=True), prompt=[3, 1, 2])
    assert server.paths == ["/v1/completions"]
    assert server.bodies[0]["prompt"] == [3, 1, 2]
    assert server.bodies[0]["logprobs"] == 1
    assert (answer.text, answer.finish_reason, answer.log_probs) == ("ok", "length", [-1.0, -2.0, -3.0])


def test_openai_engine_reads_log_probs_on_request(server, make):
    scored = choice(logprobs={"content": [{"token": "o", "logprob": -0.5}, {"token": "k", "logprob": -1.5}]})
    server.script = in_turn(reply(body=completion(scored)))
    asked, unasked = make(request_log_probs=True), make()
    assert ask(asked)[0].log_probs == [-0.5, -1.5]
    assert ask(unasked)[0].log_probs is None
    assert [body.get("logprobs") for body in server.bodies] == [True, None]
    assert asked.capabilities == {"log_probs"}
    assert unasked.capabilities == set()


@pytest.mark.parametrize(("stop_reason", "stop_string"), [("\n", "\n"), (151645, None), (None, None)])
def test_openai_engine_reads_the_stop_string(server, make, stop_reason, stop_string):
    server.script = in_turn(reply(body=completion(choice(stop_reason=stop_reason))))
    assert ask(make(), stop=("\n",))[0].stop_string == stop_string


def test_openai_engine_reads_a_missing_text_as_empty(server, make):
    server.script = in_turn(reply(body=completion(choice(None, finish_reason="length"))))
    assert ask(make())[0].text == ""


# --- several samples


def test_openai_engine_orders_samples_and_shares_their_tokens(server, make):
    body = completion(choice("long text!", 1), choice("tiny!", 0), completion_tokens=7)
    server.script = in_turn(reply(body=body))
    engine = make()
    answers = ask(engine, n=2)
    assert [(a.text, a.generated_tokens) for a in answers] == [("tiny!", 2), ("long text!", 5)]
    assert engine.generated_tokens == 7 + 2  # the check of several samples has two
    assert engine.prompt_tokens == 5
    assert [b["n"] for b in server.bodies] == [2]


def test_openai_engine_repeats_requests_for_missing_samples(server, make):
    server.script = lambda body, number: reply(body=completion(choice(str(body["seed"]))))
    engine = make()
    answers = ask(engine, n=4)
    assert len({a.text for a in answers}) == 4
    assert [body.get("n") for body in server.bodies] == [4, None, None, None]
    assert engine.transport.requests == 4 + 1  # and the check of several samples
    assert engine.generated_tokens == 12 + 2
    assert [a.text for a in ask(make(), n=4)] == [a.text for a in answers]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (reply(body=completion(choice(), choice(index=1), completion_tokens=1)), "does not count the tokens of all"),
        (
            reply(body=completion(*(choice("x", i, "length") for i in range(2)), completion_tokens=16)),
            "does not count the tokens of all",
        ),
        (reply(body=completion(choice())), "ignores the number of samples"),
        (reply(400, "Only one completion choice is allowed"), "refuses several samples"),
    ],
    ids=["fewer tokens than samples", "one sample's tokens", "one sample", "refusal"],
)
def test_openai_engine_requests_samples_one_by_one_from_servers_without_several(server, make, caplog, answer, fault):
    server.several = lambda: answer
    engine = make()
    assert len(ask(engine, n=3)) == len(ask(engine, n=3)) == 3
    sent = [body.get("n") for body in server.bodies]
    assert sent == [None] * (6 + ("refuses" in fault))  # after a refusal it asks whether a single sample works
    assert len({body["seed"] for body in server.bodies[-6:]}) == 3
    (warning,) = caplog.messages
    assert warning.endswith("so samples are requested one by one.")
    assert fault in warning


def test_openai_engine_does_not_take_an_outage_for_a_refusal_of_several_samples(server, make):
    several, server.several = server.several, lambda: reply(401)
    server.script = lambda body, number: reply(401)
    engine = make()
    assert "OPENAI_API_KEY" in fails(engine, n=3)
    server.several, server.script = several, lambda body, number: reply(body=completion(*map(choice, "abc", range(3))))
    assert len(ask(engine, n=3)) == 3
    assert server.bodies[-1]["n"] == 3


def test_openai_engine_asks_llama_cpp_again_without_its_defaults(server, make):
    server.script = lambda body, number: reply(body=completion(choice(str(body.get("top_k"))), timings={"cache_n": 0}))
    engine = make()
    assert [ask(engine)[0].text for _ in range(2)] == ["0", "0"]
    assert [(body.get("top_k"), body.get("min_p")) for body in server.bodies] == [(None, None), (0, 0.0), (0, 0.0)]
    assert engine.generated_tokens == 9  # the tokens of the first response are counted as well
    assert ask(engine, top_k=5)[0].text == "5"
    assert ask(make(extra_body={"top_k": 7}))[0].text == "7"


def test_openai_engine_requests_greedy_samples_one_by_one(server, make):
    assert len(ask(make(), n=3, temperature=0.0)) == 3
    assert [body.get("n") for body in server.bodies] == [None] * 3


def test_openai_engine_drops_and_counts_surplus_samples(server, make):
    server.script = in_turn(reply(body=completion(choice("a", 0), choice("b", 1), completion_tokens=8)))
    engine = make()
    assert [a.text for a in ask(engine)] == ["a"]
    assert engine.generated_tokens == 8


@given(st.integers(0, 10_000), st.lists(st.integers(0, 500), min_size=1, max_size=20))
def test_share_sums_to_the_total_within_one_of_exact(total, weights):
    parts = share(total, weights)
    exact = [total * w / sum(weights) if sum(weights) else total / len(weights) for w in weights]
    assert sum(parts) == total
    assert all(abs(p - e) < 1 + 1e-9 for p, e in zip(parts, exact, strict=True))


# --- retries


@pytest.mark.parametrize(
    "bad",
    [
        reply(500, "boom"),
        reply(503, '{"error": {"message": "loading"}}'),
        reply(429, "slow down"),
        reply(body='{"choices": [{"index": 0'),
        reply(cut=20),
        reply(body="<html>gateway</html>"),
        reply(body="[1]"),
        reply(body={"error": {"message": "overloaded"}}),
        reply(body=completion() | {"choices": [{"index": 0}]}),
        reply(body=""),
    ],
    ids=["500", "503", "429", "truncated", "cut", "html", "list", "error", "fields", "empty"],
)
def test_openai_engine_retries_temporary_failures(server, make, bad):
    server.script = in_turn(bad, bad, reply())
    engine = make()
    assert [a.text for a in ask(engine)] == [OK]
    assert engine.transport.requests == 3
    assert len({body["seed"] for body in server.bodies}) == 1
    server.script = in_turn(bad)
    message = fails(engine)
    assert "(3 attempts)" in message
    assert server.url in message


def test_openai_engine_counts_tokens_of_discarded_answers(server, make):
    server.script = in_turn(reply(body=completion() | {"choices": []}), reply())
    engine = make()
    assert len(ask(engine)) == 1
    assert (engine.generated_tokens, engine.prompt_tokens) == (6, 10)


def test_openai_engine_counts_each_sample_once(server, make):
    def script(body, number):
        return reply(500, "boom") if number % 3 == 0 else reply(body=completion(choice(body["messages"][0]["content"])))

    server.script = script
    engine = make(max_retries=20, max_concurrency=8)
    prompts = [f"question {i}" for i in range(40)]

    async def all_of_them():
        requests = [GenerationRequest([{"role": "user", "content": p}], i) for i, p in enumerate(prompts)]
        return await gather(*(engine.generate(r) for r in requests))

    assert [g.text for (g,) in asyncio.run(all_of_them())] == prompts
    assert engine.generated_tokens == 3 * 40
    assert engine.transport.requests == len(server.bodies) > 40


def test_openai_engine_reports_a_server_that_is_down(make):
    engine = make(base_url="http://127.0.0.1:1/v1")
    message = fails(engine)
    assert "http://127.0.0.1:1/v1 (3 attempts): the connection failed" in message
    assert "Start the server" in message


def test_openai_engine_reports_a_timeout(server, make):
    server.script = lambda body, number: (time.sleep(0.4), reply())[1]
    message = fails(make(timeout_s=0.1, max_retries=1))
    assert "(2 attempts)" in message
    assert "timeout_s=0.1" in message


def test_openai_engine_waits_for_retry_after(server, make):
    server.script = in_turn(reply(429, "slow down", {"Retry-After": "0.3"}), reply())
    start = time.monotonic()
    assert len(ask(make())) == 1
    assert time.monotonic() - start >= 0.3


def test_openai_engine_fails_at_once_if_retry_after_is_long(server, make):
    server.script = in_turn(reply(429, "slow down", {"Retry-After": "7200"}))
    assert "7200" in fails(make())
    assert len(server.bodies) == 1


def test_retry_after_reads_numbers_and_dates():
    assert retry_after(None) == retry_after("soon") == retry_after("-3") == retry_after("nan") == 0
    assert retry_after("1.5") == 1.5
    assert 55 < retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60
    assert retry_after(formatdate(time.time() - 60, usegmt=True)) == 0


@given(st.integers(0, 2**62), st.integers(0, 40))
def test_backoff_is_between_half_and_all_of_a_doubling_wait(seed, attempt):
    wait = backoff(seed, attempt, 0.5)
    whole = min(0.5 * 2**attempt, MAX_BACKOFF_S)
    assert whole / 2 <= wait <= whole
    assert wait == backoff(seed, attempt, 0.5)


def test_backoff_depends_on_seed_and_attempt():
    assert len({backoff(seed, 0, 1.0) for seed in range(50)}) == 50
    assert backoff(0, 1, 1.0) != 2 * backoff(0, 0, 1.0)


# --- permanent failures


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        (reply(404, "no such model"), ["does not have the model 'served'", "alpha, beta"]),
        (reply(400, "This model's maximum context length is 512 tokens."), ["reduce max_tokens", "512 tokens"]),
        (reply(400, "request (9 tokens) exceeds the available context size (8 tokens)"), ["reduce max_tokens"]),
        (reply(400, "max_tokens=5000 cannot be greater than max_model_len=512."), ["reduce max_tokens"]),
        (reply(400, "Use 'max_completion_tokens' instead."), ["max_tokens_field=max_completion_tokens"]),
        (reply(422, "Unexpected fields: top_k"), ["status 422", "top_k", "extra_body"]),
        (reply(429, '{"error": {"code": "insufficient_quota"}}'), ["no quota left"]),
        (reply(body={"choices": [choice()]}), ["no token counts", "reports usage"]),
        (reply(body=completion(choice(finish_reason="content_filter"))), ["content_filter", "'stop' or 'length'"]),
    ],
    ids=["model", "context", "context size", "length", "field", "unknown", "quota", "usage", "filter"],
)
def test_openai_engine_fails_at_once_on_permanent_failures(server, make, answer, parts):
    server.models = ["alpha", "beta"]
    server.script = in_turn(answer)
    message = fails(make())
    assert [part for part in parts if part not in message] == []
    assert "attempts" not in message
    assert len(server.bodies) == 1


def test_openai_engine_raises_context_length_error(server, make):
    server.script = in_turn(reply(400, "This model's maximum context length is 512 tokens."), reply(400, "no"))
    engine = make()
    with pytest.raises(ContextLengthError):
        ask(engine)
    with pytest.raises(ReasonEnvsError) as caught:
        ask(engine)
    assert type(caught.value) is EngineError


def test_openai_engine_explains_status_404(server, make):
    server.script = in_turn(reply(404, "nothing"))
    assert "Prompts of token ids need" in fails(make(), prompt=[1, 2])
    server.models = []
    assert "usually ends in /v1" in fails(make())


@pytest.mark.parametrize("scored", [{}, {"token_ids": [1, 2], "logprobs": {"content": [{"logprob": -1.0}]}}])
def test_openai_engine_refuses_answers_without_log_probs(server, make, scored):
    server.script = in_turn(reply(body=completion(choice(**scored))))
    engine = make(request_log_probs=True)
    assert "request_log_probs=false" in fails(engine)
    assert engine.generated_tokens == 3


def test_openai_engine_raises_failures_of_repeated_requests(server, make):
    server.script = in_turn(reply(), reply(), reply(400, "enough"))
    assert "enough" in fails(make(), n=6)


# --- the key


@pytest.mark.parametrize("status", [200, 401, 403, 400, 500])
def test_openai_engine_never_shows_the_key(server, make, monkeypatch, caplog, capfd, status):
    monkeypatch.setenv("MY_KEY", f" {SECRET}\n")
    caplog.set_level(logging.DEBUG)
    server.script = in_turn(reply(status, None if status == 200 else "x" * 290 + f" the key {SECRET} is odd"))
    engine = make(api_key_env="MY_KEY")
    message = str(ask(engine)) if status == 200 else fails(engine)
    assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"
    shown = [message, repr(engine), repr(engine.config), str(vars(engine)), str(vars(engine.transport)), caplog.text]
    out = capfd.readouterr()
    assert SECRET[:8] not in "\n".join([*shown, out.out, out.err])
    if status in (401, 403):
        assert "MY_KEY was refused" in message


def test_openai_engine_names_the_variable_of_a_missing_key(server, make, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server.script = in_turn(reply(401, "who are you?"))
    assert "OPENAI_API_KEY is not set" in fails(make())


def test_openai_engine_refuses_a_garbled_key_without_showing_it(make, monkeypatch):
    monkeypatch.setenv("MY_KEY", SECRET + "\nX: y\u00e9")
    with pytest.raises(ReasonEnvsError, match="MY_KEY contains characters") as caught:
        ask(make(api_key_env="MY_KEY"))
    assert SECRET not in str(caught.value)


# --- event loops


def test_openai_engine_reaches_but_never_exceeds_max_concurrency(server, make):
    server.script = lambda body, number: (time.sleep(0.03), reply())[1]
    engine = make(max_concurrency=4)

    async def many():
        await gather(*(engine.generate(GenerationRequest(CHAT, i)) for i in range(20)))

    asyncio.run(many())
    assert server.max_simultaneous == 4
    assert len(server.bodies) == 20


def test_openai_engine_works_in_several_event_loops(server, make):
    engine = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for _ in range(3):
            assert len(ask(engine)) == 1
        gc.collect()
    assert len(engine.transport._connections) == 1  # the last one, whose loop has ended


def test_close_closes_the_client_of_another_thread(server, make):
    engine = make()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        request = GenerationRequest(CHAT, 0)
        assert len(asyncio.run_coroutine_threadsafe(engine.generate(request), loop).result(10)) == 1
        client = engine.transport._connections[loop].client
        assert not client.is_closed()
        engine.close()
        assert client.is_closed()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_close_works_inside_and_outside_of_the_event_loop(server, make):
    engine = make()

    async def inside():
        await engine.generate(GenerationRequest(CHAT, 0))
        client = engine.transport._connections[asyncio.get_running_loop()].client
        engine.close()
        await asyncio.sleep(0.05)
        return client

    assert asyncio.run(inside()).is_closed()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(engine.generate(GenerationRequest(CHAT, 0)))
    client = engine.transport._connections[loop].client
    engine.close()
    assert client.is_closed()
    loop.close()


def test_openai_engine_frees_the_slot_of_a_cancelled_request(server, make):
    server.script = lambda body, number: (time.sleep(0.5 if number == 0 else 0), reply())[1]
    engine = make(max_concurrency=1)

    async def give_up_then_ask():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.generate(GenerationRequest(CHAT, 0)), 0.1)
        return await asyncio.wait_for(engine.generate(GenerationRequest(CHAT, 1)), 5)

    assert len(asyncio.run(give_up_then_ask())) == 1


# --- configuration


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "localhost:8000"}, "must be a URL such as http://"),
        ({"base_url": f"https://me:{SECRET}@host/v1"}, "use api_key_env for the key"),
        ({"max_tokens_field": "max_token"}, "Did you mean 'max_tokens'"),
        ({"max_concurrency": 0}, "max_concurrency=0 must be at least 1"),
        ({"timeout_s": 0}, "must be above 0"),
        ({"max_retries": -1}, "max_retries=-1 must be at least 0"),
        ({"backoff_s": -1}, "backoff_s=-1 must be at least 0"),
        ({"extra_body": {"temperature": 2}}, "must not set temperature: the engine does"),
    ],
)
def test_openai_engine_refuses_invalid_options(options, message):
    with pytest.raises(ReasonEnvsError, match=message) as caught:
        OpenAIEngineConfig(**options)
    assert SECRET not in str(caught.value)


def test_openai_engine_refuses_invalid_requests(make):
    with pytest.raises(ReasonEnvsError, match="must be the model's name"):
        make(model="")
    with pytest.raises(ReasonEnvsError, match="adapter 'a'"):
        asyncio.run(make().generate(GenerationRequest(CHAT, 0, adapter="a")))
    with pytest.raises(ReasonEnvsError, match="prompt is empty"):
        ask(make(), prompt=[])


def test_openai_engine_is_not_trainable(make):
    engine = make()
    assert isinstance(engine, Engine)
    assert not isinstance(engine, TrainableEngine)
    assert "trainable" not in engine.capabilities


def test_openai_engine_options_load_without_the_client_library():
    code = "import sys, reason_envs.llm as l; l.ENGINES['openai'].config_class(); print('openai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert "openai" in ENGINES.names()


def test_openai_engine_closes_all_connections_of_an_event_loop_that_ends(server, make):
    async def use(engine):
        await asyncio.gather(*(engine.generate(GenerationRequest(CHAT, seed, Sampling())) for seed in range(6)))
        engine.close()

    server.script = lambda body, number: time.sleep(0.05) or reply()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(use(make()))
        gc.collect()
    assert not [warning for warning in caught if issubclass(warning.category, ResourceWarning)]
