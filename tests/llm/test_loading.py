"""Loading models, devices and engines by name, and the errors for missing ones."""

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file, save_file
from scripted_engine import ScriptedEngine

from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import ENGINES, loading, make_engine
from reason_envs.llm.chat import encode_prompt, eos_ids
from reason_envs.llm.engine import GenerationRequest, Sampling
from reason_envs.registry import Part, Registry
from reason_envs.tasks.text import without_thoughts

CPU = torch.device("cpu")


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def test_resolve_device_finds_existing_devices(no_cuda):
    assert loading.resolve_device("auto") == loading.resolve_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "tpu:0", "", "mps"])
def test_resolve_device_refuses_unknown_kinds(name):
    with pytest.raises(ReasonEnvsError, match="auto, cpu, cuda, cuda:N"):
        loading.resolve_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_resolve_device_refuses_missing_devices(no_cuda, name):
    with pytest.raises(ReasonEnvsError, match=rf"device='{name}' does not exist.*0 CUDA device.*device=cpu"):
        loading.resolve_device(name)


def test_resolve_dtype_follows_name_and_device():
    assert loading.resolve_dtype("auto", CPU) == torch.float32
    assert loading.resolve_dtype("auto", torch.device("cuda:0")) == torch.bfloat16
    assert loading.resolve_dtype("float16", CPU) == torch.float16
    with pytest.raises(ReasonEnvsError, match=r"dtype='bfloat' is unknown\. Did you mean 'bfloat16'"):
        loading.resolve_dtype("bfloat", CPU)


def test_load_model_names_the_install_command_of_flash_attention(tiny_model, monkeypatch):
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ReasonEnvsError, match="pip install flash-attn --no-build-isolation"):
        make_engine("transformers", model=tiny_model, device="cpu", attention="flash_attention_2")


def test_load_model_refuses_unknown_attention(tiny_model):
    with pytest.raises(ReasonEnvsError, match="Did you mean 'sdpa'"):
        loading.load_model(tiny_model, device=CPU, dtype=torch.float32, attention="spda")


def test_load_tokenizer_refuses_a_missing_folder():
    with pytest.raises(ReasonEnvsError, match="this folder does not exist"):
        loading.load_tokenizer("./nowhere")


@pytest.mark.parametrize("content", [None, b"", b"GGUF", b"GGUF" + bytes(64), b"no model at all" * 99])
def test_load_model_refuses_a_damaged_gguf_file(content, tmp_path):
    file = tmp_path / "model.gguf"
    if content is not None:
        file.write_bytes(content)
    for load in (loading.load_tokenizer, lambda name: loading.load_model(name, device=CPU, dtype=torch.float32)):
        with pytest.raises(ReasonEnvsError, match=r"model=.*model\.gguf"):
            load(str(file))


def test_load_model_names_the_extra_that_reads_gguf_files(tmp_path, monkeypatch):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ReasonEnvsError, match=r"pip install 'reason-envs\[gguf\]'"):
        loading.load_tokenizer(str(tmp_path / "model.gguf"))


def test_model_path_knows_the_embedded_models():
    assert loading.model_path("embedded") == loading.model_path("embedded:base")
    with pytest.raises(ReasonEnvsError, match="step_reward_model"):
        loading.model_path("embedded:step_reward_modle")


def test_load_model_refuses_a_folder_without_a_model(tmp_path):
    with pytest.raises(ReasonEnvsError, match=r"model=.* cannot be loaded \(model\).*config\.json"):
        loading.load_model(str(tmp_path), device=CPU, dtype=torch.float32)


def test_load_model_refuses_an_unknown_hub_name(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ReasonEnvsError, match="requires network access or a filled cache"):
        loading.load_model("nobody/no-such-model", device=CPU, dtype=torch.float32)


def damage(folder, change):
    """Change the weights file of a model."""
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
def test_load_model_refuses_weights_of_another_model(tiny_model, tmp_path, change, message):
    shutil.copytree(tiny_model, tmp_path / "model")
    damage(tmp_path / "model", change)
    with pytest.raises(ReasonEnvsError, match=message):
        loading.load_model(str(tmp_path / "model"), device=CPU, dtype=torch.float32)


def test_load_model_refuses_an_incomplete_file(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ReasonEnvsError, match=r"cannot be loaded \(model\).*not fully covered"):
        loading.load_model(str(tmp_path / "model"), device=CPU, dtype=torch.float32)


def test_load_model_passes_out_of_memory_errors_on(tiny_model, monkeypatch):
    def no_room(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", no_room)
    with pytest.raises(torch.OutOfMemoryError):
        loading.load_model(tiny_model, device=CPU, dtype=torch.float32)


def test_load_model_allows_a_new_head(tiny_model):
    options = {"auto_class": "AutoModelForTokenClassification", "num_labels": 3}
    model = loading.load_model(tiny_model, device=CPU, dtype=torch.float32, **options)
    assert model.score.weight.shape == (3, 32)


def test_load_model_attention_kernels_agree(tiny_model):
    ids = torch.tensor([[5, 300, 77, 12]])
    with torch.inference_mode():
        sdpa, eager = (
            loading.load_model(tiny_model, device=CPU, dtype=torch.float32, attention=kind)(ids).logits
            for kind in ("sdpa", "eager")
        )
    assert torch.allclose(sdpa, eager, atol=1e-5)


def test_eos_ids_come_from_config_and_tokenizer(tiny_model):
    model = loading.load_model(tiny_model, device=CPU, dtype=torch.float32)
    tokenizer = loading.load_tokenizer(tiny_model)
    assert eos_ids(model, tokenizer) == {tokenizer.eos_token_id}
    model.generation_config.eos_token_id = [3, 4]
    assert eos_ids(model, tokenizer) == {3, 4, tokenizer.eos_token_id}


def test_encode_prompt_requires_a_chat_template(tiny_model):
    tokenizer = loading.load_tokenizer(tiny_model)
    assert encode_prompt(tokenizer, [4, 5]) == [4, 5]
    tokenizer.chat_template = None
    with pytest.raises(ReasonEnvsError, match="no chat template"):
        encode_prompt(tokenizer, [{"role": "user", "content": "hi"}])


# --- engines by name


def test_make_engine_takes_a_name_a_mapping_or_an_engine(tiny_model):
    spec = {"name": "transformers", "model": tiny_model, "device": "cpu"}
    engine = make_engine(spec, max_batch_size=3)
    assert engine.config.max_batch_size == 3
    assert make_engine(engine) is engine
    scripted = ScriptedEngine("4")
    assert make_engine(scripted) is scripted


def test_make_engine_refuses_unknown_names_and_options():
    with pytest.raises(ReasonEnvsError, match=r"Unknown engine 'transformer'\. Did you mean 'transformers'"):
        make_engine("transformer")
    with pytest.raises(ReasonEnvsError, match=r"max_batch=3 is not an option.* Did you mean 'max_batch_size'"):
        make_engine("transformers", max_batch=3)


def test_engines_configure_equals_the_configuration_class():
    assert ENGINES.configure("transformers", {"device": "cpu"}) == ENGINES["transformers"].config_class()(device="cpu")


@dataclass
class PartConfig:
    """Options of a part for these tests."""

    size: int = 1


def test_registry_imports_parts_when_they_are_needed():
    registry = Registry("part", "parts", {"missing": Part("no_such_module:A", "no_such_module:B")})
    registry.register("number", "builtins:int", f"{__name__}:PartConfig")
    assert registry.names() == ["missing", "number"]
    assert registry["number"].load() is int
    with pytest.raises(ReasonEnvsError, match="registered already"):
        registry.register("number", "builtins:str", f"{__name__}:PartConfig")
    with pytest.raises(ReasonEnvsError, match="cannot import 'no_such_module'"):
        registry["missing"].load()


def test_load_model_can_be_called_from_several_threads_at_once():
    def load(_):
        return loading.load_model("embedded:planner_solver", device=torch.device("cpu"), dtype=torch.float32)

    with ThreadPoolExecutor(4) as threads:
        models = list(threads.map(load, range(8)))
    weights = [model.get_output_embeddings().weight for model in models]
    assert all(torch.equal(weight, weights[0]) for weight in weights)


def thinking_tokenizer(folder):
    """Save a tokenizer whose chat template thinks unless an option forbids it, and return its folder."""
    tokenizer = loading.load_tokenizer("embedded")
    tokenizer.chat_template = (
        "{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}"
        "{% for message in messages %}{{ message['content'] }}{% endfor %}{{ style }}"
    )
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("options", "text"),
    [({}, "<think>1"), ({"enable_thinking": False}, "1"), ({"enable_thinking": False, "style": "'2'"}, "1'2'")],
)
def test_load_tokenizer_sets_options_of_the_template(tmp_path, options, text):
    tokenizer = loading.load_tokenizer(thinking_tokenizer(tmp_path), options)
    prompt = [{"role": "user", "content": "1"}]
    assert encode_prompt(tokenizer, prompt) == tokenizer(text, add_special_tokens=False).input_ids
    tokenizer.save_pretrained(tmp_path / "again")
    again = loading.load_tokenizer(str(tmp_path / "again"), options)
    assert encode_prompt(again, prompt) == encode_prompt(tokenizer, prompt)


def test_load_tokenizer_refuses_options_that_the_template_lacks():
    rule = (
        r"template_options=\{'enable_thinking': False\} must name options of the model's chat template, which does not"
    )
    with pytest.raises(ReasonEnvsError, match=rule):
        loading.load_tokenizer("embedded", {"enable_thinking": False})
    with pytest.raises(ReasonEnvsError, match=rule):
        make_engine("transformers", template_options={"enable_thinking": False})


def test_response_begins_with_the_thought_that_the_template_opens(tmp_path):
    model = loading.load_model("embedded", device=torch.device("cpu"), dtype=torch.float32)
    tokenizer = loading.load_tokenizer("embedded")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}<think>\n"
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path)
    engine = make_engine("transformers", model=str(tmp_path), device="cpu")
    chat, sampling = [{"role": "user", "content": "1 + 1 = "}], Sampling(max_tokens=4)
    (opened,) = asyncio.run(engine.generate(GenerationRequest(chat, 0, sampling)))
    (continued,) = asyncio.run(engine.generate(GenerationRequest(opened.prompt_ids, 0, sampling)))
    assert opened.text == "<think>" + continued.text
    assert opened.token_ids == continued.token_ids
    assert without_thoughts(opened.text) == ""  # so an answer in a thought that never ends earns nothing
