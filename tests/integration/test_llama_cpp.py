"""llama.cpp's own server with SmolLM2, as users of Ollama and LM Studio have it."""

import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request

import gymnasium as gym
import pytest

import reason_envs  # noqa: F401  (registers the environments)
from agents import evaluate
from reason_envs.llm import make_engine
from reason_envs.llm.engine import ContextLengthError, GenerationRequest, Sampling

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("REASON_ENVS_SMOLLM2" not in os.environ, reason="set REASON_ENVS_SMOLLM2 to the model's file"),
    pytest.mark.skipif(not importlib.util.find_spec("xllamacpp"), reason="xllamacpp is not installed"),
]
SERVER = """
import sys, threading
import xllamacpp

options = xllamacpp.CommonParams()
options.model.path, options.port = sys.argv[1], int(sys.argv[2])
options.hostnames, options.n_ctx, options.n_parallel, options.kv_unified = ["127.0.0.1"], 1024, 4, True
options.cpuparams.n_threads = 1  # several threads wait in a busy loop, which is slow beside other processes
server = xllamacpp.Server(options)
threading.Event().wait()
"""
QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Address of a server, which ends with the tests of this module."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open(tmp_path_factory.mktemp("server") / "log", "w+") as log:
        command = [sys.executable, "-c", SERVER, os.environ["REASON_ENVS_SMOLLM2"], str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait(server, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.kill()
            server.wait()


def _wait(server, address, log):
    for _ in range(600):
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.1)
    log.seek(0)
    raise RuntimeError(f"llama.cpp's server did not start:\n{log.read()[-2000:]}")


def served(url, **options):
    return {"name": "openai", "model": "smollm2", "base_url": url, **options}


def test_smollm2_on_llama_cpp_answers_and_counts_every_token(url, caplog):
    engine = make_engine(served(url, request_log_probs=True))
    asyncio.run(engine.check_server())
    assert caplog.messages == [
        f"{url} does not count the tokens of all samples of a request, so samples are requested one by one."
    ]
    before = engine.generated_tokens
    (greedy,) = asyncio.run(engine.generate(GenerationRequest(QUESTION, 0, Sampling(max_tokens=24, temperature=0.0))))
    assert "Paris" in greedy.text
    assert greedy.finish_reason == "stop"
    samples = asyncio.run(engine.generate(GenerationRequest(QUESTION, 1, Sampling(max_tokens=8), n=4)))
    assert len({sample.text for sample in samples}) > 1
    for sample in (greedy, *samples):
        assert len(sample.log_probs) <= sample.generated_tokens  # tokens of one character have one log-probability
        assert sample.generated_tokens == 8 or sample.finish_reason == "stop"
    assert engine.generated_tokens - before == sum(sample.generated_tokens for sample in (greedy, *samples))


def test_smollm2_on_llama_cpp_is_sampled_from_all_tokens(url):
    """By default the server draws one of the 40 most likely tokens, none below 5 % of the best one's probability."""
    engine = make_engine(served(url, request_log_probs=True))
    sampling = Sampling(max_tokens=1, temperature=3.0)
    samples = asyncio.run(engine.generate(GenerationRequest(QUESTION, 0, sampling, n=12)))
    assert min(sample.log_probs[0] for sample in samples) < -7
    assert len({sample.text for sample in samples}) > 10


def test_smollm2_on_llama_cpp_stops_at_a_stop_string(url):
    engine = make_engine(served(url))
    sampling = Sampling(max_tokens=24, temperature=0.0, stop=("France",))
    (sample,) = asyncio.run(engine.generate(GenerationRequest(QUESTION, 0, sampling)))
    assert (sample.text.strip(), sample.finish_reason) == ("The capital of", "stop")


def test_smollm2_on_llama_cpp_refuses_a_prompt_beyond_its_context(url):
    engine = make_engine(served(url))
    long = [{"role": "user", "content": "word " * 2000}]
    with pytest.raises(ContextLengthError, match="1024"):
        asyncio.run(engine.generate(GenerationRequest(long, 0, Sampling(max_tokens=8))))


def test_smollm2_on_llama_cpp_solves_for_a_planner(url):
    env = gym.make("PlannerSolver-v0", solver=served(url), tasks="chain_sum", solver_max_tokens=32)
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step("Add the numbers one by one.")
    assert (terminated, truncated) == (True, False)
    assert 0 <= reward <= 1
    assert info["generated_tokens"] > 0
    env.close()


def test_smollm2_on_llama_cpp_is_evaluated(url, capsys):
    tasks = "env.tasks={name: chain_sum, min_terms: 2, max_terms: 2}"
    chosen = ["env=single_turn_math", "policy=served", "policy.model=smollm2", "engine=openai", tasks, "tasks=4"]
    evaluate.main([*chosen, f"engine.base_url={url}", "policy.max_tokens=32", "samples=2"])
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("tokens/"))
    assert 1 < float(rows["tokens/episode"]) <= 32
