"""A real language model from end to end: SmolLM2-135M-Instruct, as `.ci/install_smollm2` unpacks it."""

import asyncio
import importlib.util
import math
import os

import gymnasium as gym
import pytest

import reason_envs  # noqa: F401  (registers the environments)
from agents import fit
from reason_envs.llm import make_engine
from reason_envs.llm.chat import encode_prompt
from reason_envs.llm.engine import GenerationRequest, Sampling
from reason_envs.llm.loading import load_tokenizer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif("REASON_ENVS_SMOLLM2" not in os.environ, reason="set REASON_ENVS_SMOLLM2 to the model's file"),
]
QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]
GREEDY = Sampling(max_tokens=24, temperature=0.0)
SUMS = {"name": "chain_sum", "min_terms": 2, "max_terms": 2}


@pytest.fixture(scope="module")
def model():
    return os.environ["REASON_ENVS_SMOLLM2"]


@pytest.fixture(scope="module")
def trained(model, tmp_path_factory):
    """Folder of a run that trained all weights of the GGUF file for two steps."""
    options = {"policy.max_tokens": 16, "algo.tasks_per_step": 2, "algo.samples_per_task": 4, "eval_every": 0}
    options |= {"env.reward": "random", "keep_last": 1}  # a checkpoint takes 1.6 GB
    folder = tmp_path_factory.mktemp("run") / "run"
    return fit(env="single_turn_math", model=model, tasks=SUMS, steps=2, output_dir=str(folder), **options)


def answer(engine, conversation=QUESTION, sampling=GREEDY):
    (generation,) = asyncio.run(engine.generate(GenerationRequest(conversation, 0, sampling)))
    return generation


def test_smollm2_writes_english_and_ends_its_answer(model):
    engine = make_engine("transformers", model=model)
    generation = answer(engine)
    assert "Paris" in generation.text
    assert generation.finish_reason == "stop"
    assert "<|im_end|>" not in generation.text
    tokenizer = load_tokenizer(model)
    ids = encode_prompt(tokenizer, QUESTION)
    assert tokenizer.decode(ids).startswith("<|im_start|>system")
    scores = asyncio.run(engine.score([*ids, *generation.token_ids], len(ids), 1.0))
    assert len(scores) == len(generation.token_ids)
    assert sum(scores) / len(scores) > math.log(0.3)  # the model finds its own greedy answer likely


def test_smollm2_trains_from_its_gguf_file(trained):
    metrics = trained.metrics
    assert len(metrics) == 2
    assert (metrics["grad_norm"] > 0).all()
    assert (metrics["sync_gap"] < 2e-3).all()  # the engine samples from the learner's weights


def test_smollm2_is_saved_as_a_plain_model(trained):
    assert "Paris" in answer(make_engine("transformers", model=str(trained.policy))).text


def test_smollm2_grows_a_search_tree(trained):
    env = gym.make(
        "ReasonTree-v0",
        tasks=SUMS,
        engine={"name": "transformers", "model": str(trained.policy)},
        reward_model="random",
        max_depth=2,
        max_step_tokens=16,
    )
    env.reset(seed=0)
    finished = False
    while not finished:
        action = int(env.unwrapped.action_masks().argmax())
        _, _, terminated, truncated, info = env.step(action)
        finished = terminated or truncated
    env.close()
    assert info["generated_tokens"] >= 2


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (extra [vllm])")
def test_vllm_continues_smollm2_like_transformers(trained):
    folder = str(trained.policy)
    engines = [make_engine(name, model=folder, dtype="float32") for name in ("transformers", "vllm")]
    ours, theirs = map(answer, engines)
    for engine in engines:
        engine.close()
    assert theirs.token_ids == ours.token_ids
    assert theirs.finish_reason == "stop"
