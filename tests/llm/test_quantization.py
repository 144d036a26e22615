"""Frozen models in 8 and 4 bits: close to the exact model, smaller, and refused for training."""

import importlib.util

import pytest
import torch

from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import loading, make_engine
from reason_envs.llm.engine import GenerationRequest, Sampling

CPU = torch.device("cpu")
BITS = ("load_in_8bit", "load_in_4bit")
SUM = [{"role": "user", "content": "What is 4 + 7 - 2 + 7?"}]

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed (extra [quantization])"
)


def load(name="embedded", **options):
    return loading.load_model(name, device=CPU, dtype=torch.float32, **options)


def logits(model):
    ids = torch.tensor([loading.load_tokenizer("embedded").apply_chat_template(SUM, return_dict=False)])
    with torch.inference_mode():
        return model(ids).logits[0]


@needs_bitsandbytes
def test_load_model_with_fewer_bits_is_smaller_and_less_exact():
    exact, eight, four = load(), load(load_in_8bit=True), load(load_in_4bit=True)
    assert [loading.is_quantized(model) for model in (exact, eight, four)] == [False, True, True]
    sizes = [model.model.layers.state_dict() for model in (exact, eight, four)]
    sizes = [sum(t.numel() * t.element_size() for t in tensors.values()) for tensors in sizes]
    assert sizes[1] < 0.3 * sizes[0]
    assert sizes[2] < 0.2 * sizes[0]
    gaps = [float((logits(exact) - logits(model)).abs().mean()) for model in (eight, four)]
    assert 0 < gaps[0] < 0.2 < gaps[1] < 2
    assert eight.get_output_embeddings().weight.dtype == torch.float32


@needs_bitsandbytes
def test_quantized_engine_returns_log_probs_of_its_model():
    engine = make_engine("transformers", device="cpu", load_in_8bit=True)
    ((sample,),) = engine.generate_batch([GenerationRequest(SUM, 0, Sampling(48, temperature=0.0))])
    assert "boxed" in sample.text
    with torch.inference_mode():
        out = engine.model(torch.tensor([sample.prompt_ids + sample.token_ids])).logits[0].log_softmax(-1)
    rows = range(len(sample.prompt_ids) - 1, len(out) - 1)
    expected = [float(out[row, token]) for row, token in zip(rows, sample.token_ids, strict=True)]
    assert sample.log_probs == pytest.approx(expected, abs=0.05)


@needs_bitsandbytes
def test_load_model_quantizes_models_with_other_heads(tiny_model):
    model = load(tiny_model, auto_class="AutoModelForTokenClassification", num_labels=2, load_in_8bit=True)
    assert model.score.weight.shape == (2, 32)
    assert model.score.weight.dtype == torch.float32
    assert model.model.layers[0].mlp.up_proj.weight.dtype == torch.int8


@needs_bitsandbytes
@pytest.mark.parametrize("bits", BITS)
def test_quantized_engine_refuses_new_weights(tiny_model, bits):
    engine = make_engine("transformers", model=tiny_model, device="cpu", **{bits: True})
    assert engine.capabilities == {"log_probs"}
    with pytest.raises(ReasonEnvsError, match=r"Quantized weights.*leave out load_in_8bit"):
        engine.load_weights(engine.model.state_dict(), 1)


@needs_bitsandbytes
def test_quantized_engine_loads_a_model_that_is_stored_quantized(tiny_model, tmp_path):
    load(tiny_model, load_in_8bit=True).save_pretrained(tmp_path)
    loading.load_tokenizer(tiny_model).save_pretrained(tmp_path)
    assert make_engine("transformers", model=str(tmp_path), device="cpu").capabilities == {"log_probs"}


def test_load_model_refuses_8_and_4_bits_together(tiny_model):
    with pytest.raises(ReasonEnvsError, match="excludes load_in_4bit=True: set only one"):
        load(tiny_model, load_in_8bit=True, load_in_4bit=True)


@pytest.mark.parametrize("bits", BITS)
def test_load_model_names_the_install_command_of_bitsandbytes(tiny_model, monkeypatch, bits):
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ReasonEnvsError, match=rf"{bits}=True needs bitsandbytes.*pip install 'reason-envs\[quant"):
        make_engine("transformers", model=tiny_model, device="cpu", **{bits: True})
