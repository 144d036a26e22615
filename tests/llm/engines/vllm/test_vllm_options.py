"""Options of ``engine=vllm`` and checks before vLLM starts."""

import importlib.util
import json

import pytest
import torch
from safetensors.torch import save_file

from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import make_engine
from reason_envs.llm.engines.vllm.options import VllmEngineConfig, vllm_arguments
from reason_envs.llm.lora_files import check_adapter

CPU = torch.device("cpu")
SHAPES = {"model.layers.0.mlp.down_proj.weight": torch.Size((32, 64))}
MATRIX = "base_model.model.model.layers.0.mlp.down_proj.lora_{}.weight"


def arguments(device=CPU, **options):
    return vllm_arguments(VllmEngineConfig(**options), device, torch.bfloat16)


@pytest.mark.parametrize(
    ("options", "device", "expected"),
    [
        ({}, CPU, {"kv_cache_memory_bytes": 2**30}),
        ({"kv_cache_gib": 0.5}, CPU, {"kv_cache_memory_bytes": 2**29}),
        ({"memory_fraction": 0.2}, CPU, {"gpu_memory_utilization": 0.2}),
        ({}, torch.device("cuda", 0), {"gpu_memory_utilization": 0.5}),
        ({"tensor_parallel_size": 2}, torch.device("cuda", 2), {"device_ids": [2, 3], "tensor_parallel_size": 2}),
        ({"max_lora_rank": 12, "max_loras": 2}, CPU, {"enable_lora": True, "max_lora_rank": 16, "max_loras": 3}),
        ({"chunked_prefill": False, "prefix_caching": False}, CPU, {"enable_prefix_caching": False}),
        ({}, CPU, {"enable_chunked_prefill": False}),
        ({}, torch.device("cuda", 0), {"enable_chunked_prefill": True}),
        ({"chunked_prefill": False}, torch.device("cuda", 0), {"enable_chunked_prefill": False}),
        ({"max_model_len": 99, "max_sequences": 7}, CPU, {"max_model_len": 99, "max_num_seqs": 7, "dtype": "bfloat16"}),
    ],
)
def test_vllm_arguments_follow_the_options(options, device, expected):
    given = arguments(device, **options)
    assert {name: given[name] for name in expected} == expected


def test_vllm_arguments_leave_out_disabled_options():
    assert not arguments().keys() & {"enable_lora", "max_lora_rank", "device_ids", "gpu_memory_utilization"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory_fraction": 1.5}, r"^memory_fraction=1.5 must lie in \[0, 1\]"),
        ({"memory_fraction": 0.5, "kv_cache_gib": 1.0}, "give one of them"),
        ({"max_lora_rank": 1024}, r"^max_lora_rank=1024 must lie in \[0, 512\]"),
        ({"max_sequences": 0}, "^max_sequences=0 must be at least 1"),
        ({"tensor_parallel_size": 0}, "^tensor_parallel_size=0 must be at least 1"),
        ({"model": "folder/model.gguf"}, "vLLM cannot exchange: use engine=transformers"),
        ({"chunked_prefill": True}, r"^chunked_prefill=True requires a GPU"),
    ],
)
def test_vllm_options_refuse_invalid_values(options, message):
    with pytest.raises(ReasonEnvsError, match=message):
        arguments(**options)


def test_vllm_arguments_refuse_tensor_parallelism_with_several_learners(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert arguments()["tensor_parallel_size"] == 1
    with pytest.raises(ReasonEnvsError, match=r"^tensor_parallel_size=2 must be 1 with 2 learner processes"):
        arguments(tensor_parallel_size=2)


def test_vllm_engine_names_the_install_command(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "vllm" else find_spec(name))
    with pytest.raises(ReasonEnvsError, match=r"pip install 'reason-envs\[vllm\]'"):
        make_engine("vllm", device="cpu")


def adapter(folder, rank=4, inputs=64, name=MATRIX, config_rank=None):
    (folder / "adapter_config.json").write_text(json.dumps({"r": config_rank or rank}))
    tensors = {name.format("A"): torch.zeros(rank, inputs), name.format("B"): torch.zeros(32, rank)}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def test_check_adapter_accepts_a_matching_adapter(tmp_path):
    check_adapter(adapter(tmp_path), SHAPES, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 8}, r"has rank 8, but the engine's max_lora_rank is 4\. Set max_lora_rank=8"),
        ({"inputs": 63}, r"shape \(4, 63\); the engine's model requires \(4, 64\) at rank 4"),
        ({"rank": 2, "config_rank": 3}, r"shape \(2, 64\); the engine's model requires \(3, 64\) at rank 3"),
        (
            {"name": "base_model.model.model.layers.9.mlp.down_proj.lora_{}.weight"},
            "is not a LoRA matrix of the",
        ),
    ],
)
def test_check_adapter_refuses_an_adapter_that_does_not_fit(tmp_path, options, message):
    with pytest.raises(ReasonEnvsError, match=message):
        check_adapter(adapter(tmp_path, **options), SHAPES, 4)


def test_check_adapter_refuses_a_folder_without_an_adapter(tmp_path):
    with pytest.raises(ReasonEnvsError, match=r"adapter_config\.json is missing"):
        check_adapter(tmp_path, SHAPES, 4)
