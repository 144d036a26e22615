"""Options of ``engine=vllm``, and the arguments of vLLM that they correspond to."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reason_envs.errors import OptionError
from reason_envs.validation import Checked, limited

if TYPE_CHECKING:
    import torch

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The maximum ranks of LoRA adapters that vLLM supports."""
CPU_CACHE_GIB = 1.0
"""Default size of the key-value cache on a CPU, in GiB."""
GPU_MEMORY_FRACTION = 0.5
"""Default share of a GPU's memory."""
OWNER = "REASON_ENVS_VLLM_OWNER"
"""Environment variable of vLLM's processes with the number of the process that started vLLM."""
TRANSFER = "reason_envs"
"""Name under which the workers register their receiver of full weights with vLLM."""


@dataclass
class VllmEngineConfig(Checked):
    """Options of ``engine=vllm``."""

    model: str = "embedded"
    """Model to load: ``embedded`` (ships with this package), a folder, or a hub name."""
    template_options: dict[str, Any] = field(default_factory=dict)
    """Options of the model's chat template, such as ``{enable_thinking: false}``. Empty: the template's defaults."""
    device: str = "auto"
    """Device of the model: ``cpu``, ``cuda:N`` (the first of ``tensor_parallel_size`` GPUs), or ``auto``."""
    dtype: str = "auto"
    """Data type of the weights: ``float32``, ``bfloat16``, ``float16``, or ``auto`` (CPU: float32, GPU: bfloat16)."""
    tensor_parallel_size: int = limited(1, at_least=1)
    """Number of GPUs over which the model is split. Must be 1 if there are several learner processes, because each has
    its own engine."""
    memory_fraction: float | None = limited(None, above=0, within=(0, 1))
    """Share of a device's memory for weights and key-value cache, in (0, 1]; ``None``: 0.5 on a GPU; on a CPU
    ``kv_cache_gib`` applies."""
    kv_cache_gib: float | None = limited(None, above=0)
    """Size of the key-value cache in GiB, instead of ``memory_fraction``; ``None``: 1 on a CPU; on a GPU
    ``memory_fraction`` applies."""
    max_model_len: int | None = limited(None, at_least=1)
    """Maximum number of tokens of prompt and response together; ``None``: the model's own limit."""
    max_sequences: int = limited(256, at_least=1)
    """Maximum number of samples decoded at the same time."""
    chunked_prefill: bool | None = None
    """Whether to read long prompts in pieces between decoding steps; ``None``: only on a GPU, because vLLM fails on a
    CPU if the prompt of a sample with a seed is cut."""
    prefix_caching: bool = True
    """Whether to reuse keys and values of prompts that start with the same tokens."""
    enforce_eager: bool = False
    """Whether to skip compilation and graph capture. The engine then starts faster and decodes more slowly."""
    max_lora_rank: int = limited(0, within=(0, RANKS[-1]))
    """Maximum rank of LoRA adapters, which are then sent without the model; 0: the weights of a LoRA policy are merged
    and sent in full."""
    max_loras: int = limited(1, at_least=1)
    """Maximum number of adapters held at the same time, including the one that is trained."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory_fraction is not None and self.kv_cache_gib is not None:
            rule = f"and kv_cache_gib={self.kv_cache_gib} both set the size of the key-value cache: give one of them."
            raise OptionError("memory_fraction", self.memory_fraction, rule)


def vllm_arguments(config: VllmEngineConfig, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return the arguments of vLLM's ``AsyncEngineArgs``.

    Raises:
        OptionError: an option does not work on this device or with several learner processes.
    """
    from reason_envs.llm.loading import is_gguf, model_path

    if is_gguf(config.model):
        raise OptionError(
            "model", config.model, "is a GGUF file, whose weights vLLM cannot exchange: use engine=transformers."
        )
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if config.tensor_parallel_size > 1 and processes > 1:
        raise OptionError(
            "tensor_parallel_size",
            config.tensor_parallel_size,
            f"must be 1 with {processes} learner processes: each has its own engine on its own device. Use 1, or one "
            "learner process.",
        )
    if config.chunked_prefill and device.type == "cpu":
        rule = "requires a GPU: vLLM fails on a CPU if the prompt of a sample with a seed is cut. Leave it out."
        raise OptionError("chunked_prefill", True, rule)
    return {
        "model": model_path(config.model),
        "dtype": str(dtype).removeprefix("torch."),
        "seed": 0,
        "tensor_parallel_size": config.tensor_parallel_size,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_sequences,
        "enable_chunked_prefill": device.type != "cpu" if config.chunked_prefill is None else config.chunked_prefill,
        "enable_prefix_caching": config.prefix_caching,
        "enforce_eager": config.enforce_eager,
        # Log-probabilities at the sampling temperature. `score` needs those of the whole vocabulary.
        "logprobs_mode": "processed_logprobs",
        "max_logprobs": -1,
        "use_tqdm_on_load": False,
        "worker_extension_cls": "reason_envs.llm.engines.vllm.worker.WeightReceiver",
        "weight_transfer_config": {"backend": TRANSFER},
        "disable_log_stats": True,
        **_memory(config, device),
        **({"device_ids": [device.index + i for i in range(config.tensor_parallel_size)]} if device.index else {}),
        **_lora(config),
    }


def _memory(config: VllmEngineConfig, device: torch.device) -> dict[str, Any]:
    gib = config.kv_cache_gib
    if gib is None and config.memory_fraction is None and device.type == "cpu":
        gib = CPU_CACHE_GIB
    if gib is not None:
        return {"kv_cache_memory_bytes": int(gib * 2**30)}
    return {"gpu_memory_utilization": config.memory_fraction or GPU_MEMORY_FRACTION}


def _lora(config: VllmEngineConfig) -> dict[str, Any]:
    if not config.max_lora_rank:
        return {}
    rank = next(rank for rank in RANKS if rank >= config.max_lora_rank)
    # One more slot: a new version is loaded, and thereby checked, before the old version is removed.
    return {"enable_lora": True, "max_lora_rank": rank, "max_loras": config.max_loras + 1}
