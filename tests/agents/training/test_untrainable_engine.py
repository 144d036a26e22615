"""A run whose engine cannot take new weights is refused before anything is sent or written."""

import pytest
import torch
from language_toys import make_policy
from openai_server import Server

from agents.config.compose import compose_config
from agents.training.build import build
from agents.training.resolve import resolve
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.loading import load_model, load_tokenizer


def test_build_refuses_to_train_through_a_server(tmp_path):
    server = Server()
    try:
        overrides = ["engine=openai", f"engine.base_url={server.url}", f"output_dir={tmp_path / 'run'}"]
        with pytest.raises(ReasonEnvsError, match=r"engine=openai cannot take new weights.*engine=transformers"):
            build(resolve(compose_config(overrides)))
    finally:
        server.close()
    assert server.bodies == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bits", ["load_in_8bit", "load_in_4bit"])
def test_build_refuses_a_quantized_engine_before_the_policy_loads(tiny_model, tmp_path, monkeypatch, bits):
    pytest.importorskip("bitsandbytes", reason="extra [quantization]")
    monkeypatch.setattr("agents.policies.language.load_model", None)
    overrides = [f"policy.model={tiny_model}", f"engine.{bits}=true", f"output_dir={tmp_path / 'run'}"]
    with pytest.raises(ReasonEnvsError, match=r"cannot take new weights.*that is not quantized"):
        build(resolve(compose_config(overrides)))


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_policy_refuses_a_model_that_is_stored_quantized(tiny_model, tmp_path, lora_rank):
    pytest.importorskip("bitsandbytes", reason="extra [quantization]")
    cpu = torch.device("cpu")
    load_model(tiny_model, device=cpu, dtype=torch.float32, load_in_8bit=True).save_pretrained(tmp_path)
    load_tokenizer(tiny_model).save_pretrained(tmp_path)
    with pytest.raises(ReasonEnvsError, match=r"policy\.model=.* is stored quantized"):
        make_policy(str(tmp_path), lora_rank=lora_rank)
