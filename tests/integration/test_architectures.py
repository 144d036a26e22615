"""Foreign architectures: learner, engine and the model's own forward pass give the same log-probabilities."""

from __future__ import annotations

import pytest

from benchmarks.parity.architectures import compare

RIGHT = ["llama", "gemma2", "granite", "cohere", "opt", "gpt2", "bloom", "qwen2_moe", "lfm2", "qwen3_5_text"]
RIGHT += ["falcon_h1", "mamba", "doge", "deepseek_v3", "llama4_text", "inkling_text"]
ADAPTED = ["gpt2", "mixtral", "jamba", "phimoe", "falcon_h1", "llama4_text", "longcat_flash"]
REFUSED = {
    "recurrent_gemma": "disagree about the log-probabilities",
    "rwkv": "does not accept a cache",
    "xlstm": "cannot be trained with TransformersEngine",
    "bert": "is an encoder",
    "roformer": "is an encoder",
    "plbart": "is the decoder of an encoder-decoder model",
}


@pytest.mark.parametrize(
    ("kind", "training"), [*((kind, "full") for kind in RIGHT), *((kind, "lora") for kind in ADAPTED)]
)
def test_learner_and_engine_agree_with_the_models_forward_pass(kind, training):
    row = compare(kind, "float32", training)
    assert row.verdict == "right", row.message
    assert max(row.learner, row.engine) < 1e-5


def test_weights_that_a_model_keeps_in_float32_arrive_in_an_engine_in_bfloat16():
    row = compare("glm4_moe", "bfloat16", "full")
    assert row.verdict == "right", row.message


@pytest.mark.parametrize("kind", REFUSED)
def test_an_architecture_that_cannot_be_trained_is_refused_by_name(kind):
    row = compare(kind, "float32", "full")
    assert row.verdict == "refused"
    assert REFUSED[kind] in row.message
