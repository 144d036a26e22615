"""Finding models, devices, engines and parts by name, and what is said when they are not there."""

import shutil
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file, save_file

from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import ENGINES, loading, make_engine
from reason_envs.llm.chat import encode_prompt, eos_ids
from reason_envs.llm.engines.scripted import ScriptedEngine
from reason_envs.registry import Part, Registry

CPU = torch.device("cpu")


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def test_devices_that_exist(no_cuda):
    assert loading.resolve_device("auto") == loading.resolve_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "tpu:0", "", "mps"])
def test_devices_of_no_known_kind(name):
    with pytest.raises(ReasonEnvsError, match="auto, cpu, cuda, cuda:N"):
        loading.resolve_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_devices_that_are_missing(no_cuda, name):
    with pytest.raises(ReasonEnvsError, match=rf"device='{name}' does not exist.*0 CUDA device.*device=cpu"):
        loading.resolve_device(name)


def test_dtypes():
    assert loading.resolve_dtype("auto", CPU) == torch.float32
    assert loading.resolve_dtype("auto", torch.device("cuda:0")) == torch.bfloat16
    assert loading.resolve_dtype("float16", CPU) == torch.float16
    with pytest.raises(ReasonEnvsError, match=r"dtype='bfloat' is unknown\. Did you mean 'bfloat16'"):
        loading.resolve_dtype("bfloat", CPU)


def test_flash_attention_missing_names_the_install_line(tiny_model, monkeypatch):
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ReasonEnvsError, match="pip install flash-attn --no-build-isolation"):
        make_engine("transformers", model=tiny_model, device="cpu", attention="flash_attention_2")


def test_unknown_attention(tiny_model):
    with pytest.raises(ReasonEnvsError, match="Did you mean 'sdpa'"):
        loading.load_model(tiny_model, device=CPU, dtype=torch.float32, attention="spda")


def test_a_folder_that_is_not_there():
    with pytest.raises(ReasonEnvsError, match="this folder does not exist"):
        loading.load_tokenizer("./nowhere")


def test_models_that_ship_have_names():
    assert loading.model_path("embedded") == loading.model_path("embedded:base")
    with pytest.raises(ReasonEnvsError, match="step_reward_model"):
        loading.model_path("embedded:step_reward_modle")


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ReasonEnvsError, match=r"model=.* cannot be loaded \(model\).*config\.json"):
        loading.load_model(str(tmp_path), device=CPU, dtype=torch.float32)


def test_a_name_that_no_hub_knows(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ReasonEnvsError, match="requires network access or a filled cache"):
        loading.load_model("nobody/no-such-model", device=CPU, dtype=torch.float32)


def damage(folder, change):
    """Change a model's file of weights."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


UP = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(UP), rf"is incomplete: 1 weights are missing from its files \({UP}\)"),
        (lambda tensors: tensors.update({UP: tensors[UP][:-1].contiguous()}), "cannot be loaded"),
    ],
)
def test_weights_that_are_not_the_models(tiny_model, tmp_path, change, message):
    shutil.copytree(tiny_model, tmp_path / "model")
    damage(tmp_path / "model", change)
    with pytest.raises(ReasonEnvsError, match=message):
        loading.load_model(str(tmp_path / "model"), device=CPU, dtype=torch.float32)


def test_a_file_of_weights_that_is_cut_short(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ReasonEnvsError, match=r"cannot be loaded \(model\).*not fully covered"):
        loading.load_model(str(tmp_path / "model"), device=CPU, dtype=torch.float32)


def test_running_out_of_memory_while_loading_is_no_wrong_name(tiny_model, monkeypatch):
    def no_room(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", no_room)
    with pytest.raises(torch.OutOfMemoryError):
        loading.load_model(tiny_model, device=CPU, dtype=torch.float32)


def test_a_new_head_may_start_random(tiny_model):
    options = {"auto_class": "AutoModelForTokenClassification", "num_labels": 3}
    model = loading.load_model(tiny_model, device=CPU, dtype=torch.float32, **options)
    assert model.score.weight.shape == (3, 32)


def test_both_attention_kernels_agree(tiny_model):
    ids = torch.tensor([[5, 300, 77, 12]])
    with torch.inference_mode():
        sdpa, eager = (
            loading.load_model(tiny_model, device=CPU, dtype=torch.float32, attention=kind)(ids).logits
            for kind in ("sdpa", "eager")
        )
    assert torch.allclose(sdpa, eager, atol=1e-5)


def test_every_token_that_ends_a_response(tiny_model):
    model = loading.load_model(tiny_model, device=CPU, dtype=torch.float32)
    tokenizer = loading.load_tokenizer(tiny_model)
    assert eos_ids(model, tokenizer) == {tokenizer.eos_token_id}
    model.generation_config.eos_token_id = [3, 4]
    assert eos_ids(model, tokenizer) == {3, 4, tokenizer.eos_token_id}


def test_messages_need_a_chat_template(tiny_model):
    tokenizer = loading.load_tokenizer(tiny_model)
    assert encode_prompt(tokenizer, [4, 5]) == [4, 5]
    tokenizer.chat_template = None
    with pytest.raises(ReasonEnvsError, match="no chat template"):
        encode_prompt(tokenizer, [{"role": "user", "content": "hi"}])


# --- engines by name


def test_engines_by_name_mapping_or_object(tiny_model):
    spec = {"name": "transformers", "model": tiny_model, "device": "cpu"}
    engine = make_engine(spec, max_batch_size=3)
    assert engine.config.max_batch_size == 3
    assert make_engine(engine) is engine
    scripted = ScriptedEngine("4")
    assert make_engine(scripted) is scripted


def test_unknown_engines_and_options():
    with pytest.raises(ReasonEnvsError, match=r"Unknown engine 'transformer'\. Did you mean 'transformers'"):
        make_engine("transformer")
    with pytest.raises(ReasonEnvsError, match=r"max_batch=3 is not an option.* Did you mean 'max_batch_size'"):
        make_engine("transformers", max_batch=3)


def test_engine_options_have_one_source():
    assert ENGINES.configure("transformers", {"device": "cpu"}) == ENGINES["transformers"].config_class()(device="cpu")


@dataclass
class PartConfig:
    """Options of a part in these tests."""

    size: int = 1


def test_registered_parts_are_loaded_when_asked_for():
    registry = Registry("part", "parts", {"missing": Part("no_such_module:A", "no_such_module:B")})
    registry.register("number", "builtins:int", f"{__name__}:PartConfig")
    assert registry.names() == ["missing", "number"]
    assert registry["number"].load() is int
    with pytest.raises(ReasonEnvsError, match="registered already"):
        registry.register("number", "builtins:str", f"{__name__}:PartConfig")
    with pytest.raises(ReasonEnvsError, match="cannot import 'no_such_module'"):
        registry["missing"].load()
