"""Options of ``engine=vllm`` and the vLLM arguments they become."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch

from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.loading import model_path

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM can make room for."""
CPU_CACHE_GIB = 1.0
GPU_MEMORY_FRACTION = 0.5


@dataclass
class VllmEngineConfig:
    """Options of ``engine=vllm``."""

    model: str = "embedded"
    """``embedded``, a folder, or a hub name."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda:N`` (the first of ``tensor_parallel_size`` devices)."""
    dtype: str = "auto"
    """``auto`` (float32 on a CPU, bfloat16 on a GPU), ``float32``, ``bfloat16`` or ``float16``."""
    tensor_parallel_size: int = 1
    """Devices that the model is split over; with several learner processes each has an engine, and this must be 1."""
    memory_fraction: float | None = None
    """Share of a device's memory for weights and key/value cache; null: half of a GPU, ``kv_cache_gib`` on a CPU."""
    kv_cache_gib: float | None = None
    """Size of the key/value cache instead of ``memory_fraction``; null: 1 on a CPU, where a share of the memory would
    be taken from other programs."""
    max_model_len: int | None = None
    """Most tokens of prompt and response together; null: the model's positions."""
    max_sequences: int = 256
    """Most samples decoded at the same time."""
    chunked_prefill: bool | None = None
    """Compute long prompts in pieces, between decoding steps; null: on a GPU only, since on a CPU vLLM fails when the
    prompt of a sample with a seed is cut."""
    prefix_caching: bool = True
    """Keep the key/value cache of prompts that come again."""
    enforce_eager: bool = False
    """Neither compile nor capture graphs: starts faster, decodes slower."""
    max_lora_rank: int = 0
    """Highest rank of LoRA adapters, which then travel alone; 0: a LoRA policy's weights are merged and sent whole."""
    max_loras: int = 1
    """Adapters held at the same time, the one that is trained included."""
    enable_sleep: bool = False
    """Allow ``sleep()``, which frees the device's memory until ``wake()`` (GPU only)."""

    def __post_init__(self) -> None:
        """Refuse values that vLLM would refuse later, or quietly change."""
        for name, holds, rule in (
            ("tensor_parallel_size", self.tensor_parallel_size >= 1, "be at least 1"),
            ("memory_fraction", self.memory_fraction is None or 0 < self.memory_fraction <= 1, "lie in (0, 1]"),
            ("kv_cache_gib", self.kv_cache_gib is None or self.kv_cache_gib > 0, "be above 0"),
            ("max_model_len", self.max_model_len is None or self.max_model_len >= 1, "be at least 1"),
            ("max_sequences", self.max_sequences >= 1, "be at least 1"),
            ("max_lora_rank", 0 <= self.max_lora_rank <= RANKS[-1], f"lie in [0, {RANKS[-1]}] (0 is off)"),
            ("max_loras", self.max_loras >= 1, "be at least 1"),
        ):
            if not holds:
                raise ReasonEnvsError(f"engine.{name}={getattr(self, name)} must {rule}.")
        if self.memory_fraction is not None and self.kv_cache_gib is not None:
            raise ReasonEnvsError(
                f"engine.memory_fraction={self.memory_fraction} and kv_cache_gib={self.kv_cache_gib} both size the "
                "key/value cache: give one of them."
            )


def vllm_arguments(config: VllmEngineConfig, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return the arguments of ``vllm.LLM``."""
    if config.enable_sleep and device.type == "cpu":
        raise ReasonEnvsError("engine.enable_sleep=true needs a GPU: vLLM cannot sleep on a CPU. Use false.")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if config.tensor_parallel_size > 1 and processes > 1:
        raise ReasonEnvsError(
            f"engine.tensor_parallel_size={config.tensor_parallel_size} in one of {processes} learner processes: each "
            "has an engine of its own, on its own device. Use engine.tensor_parallel_size=1, or one learner process."
        )
    if config.chunked_prefill and device.type == "cpu":
        raise ReasonEnvsError(
            "engine.chunked_prefill=true needs a GPU: on a CPU vLLM fails when the prompt of a sample with a seed is "
            "cut. Leave it out."
        )
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
        "enable_sleep_mode": config.enable_sleep,
        # Log-probabilities at the sampling temperature; all of them may be asked for, which `score` needs.
        "logprobs_mode": "processed_logprobs",
        "max_logprobs": -1,
        "worker_extension_cls": "reason_envs.llm.engines.vllm.worker.WeightReceiver",
        **_memory(config, device),
        **_device_ids(config, device),
        **_lora(config),
    }


def _memory(config: VllmEngineConfig, device: torch.device) -> dict[str, Any]:
    gib = config.kv_cache_gib
    if gib is None and config.memory_fraction is None and device.type == "cpu":
        gib = CPU_CACHE_GIB
    if gib is not None:
        return {"kv_cache_memory_bytes": int(gib * 2**30)}
    return {"gpu_memory_utilization": config.memory_fraction or GPU_MEMORY_FRACTION}


def _device_ids(config: VllmEngineConfig, device: torch.device) -> dict[str, Any]:
    if not device.index:
        return {}
    return {"device_ids": [device.index + i for i in range(config.tensor_parallel_size)]}


def _lora(config: VllmEngineConfig) -> dict[str, Any]:
    if not config.max_lora_rank:
        return {}
    rank = next(rank for rank in RANKS if rank >= config.max_lora_rank)
    # One more slot: a new version is loaded, and thereby checked, before the old one leaves.
    return {"enable_lora": True, "max_lora_rank": rank, "max_loras": config.max_loras + 1}
