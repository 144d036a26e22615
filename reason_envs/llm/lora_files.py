"""LoRA adapter folders in PEFT's format, checked before an engine loads one."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open

from reason_envs.errors import EngineError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."


def check_adapter(folder: Path, shapes: Mapping[str, torch.Size], max_rank: int) -> None:
    """Check that the adapter in a folder fits the shapes of an engine's tensors, by name, and its maximum rank.

    Raises:
        EngineError: a file is missing, the rank is too high, or a matrix does not belong to the model.
    """
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise EngineError(f"{folder} is not an adapter folder: {name} is missing. Check the path.")
    rank = json.loads((folder / ADAPTER_CONFIG).read_text())["r"]
    if rank > max_rank:
        raise EngineError(
            f"The adapter has rank {rank}, but the engine's max_lora_rank is {max_rank}. Set max_lora_rank={rank}."
        )
    with safe_open(folder / ADAPTER_WEIGHTS, "pt") as file:
        for name in file.keys():  # noqa: SIM118  (not a mapping)
            module, _, matrix = name.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".")
            base, shape = shapes.get(f"{module}.weight"), tuple(file.get_slice(name).get_shape())
            if base is None or matrix not in ("lora_A", "lora_B"):
                raise EngineError(
                    f"The adapter's tensor {name} is not a LoRA matrix of the engine's model. Learner and engine must "
                    "load the same model."
                )
            expected = (rank, base[1]) if matrix == "lora_A" else (base[0], rank)
            if shape != expected:
                raise EngineError(
                    f"The adapter's tensor {name} has shape {shape}; the engine's model requires {expected} at rank "
                    f"{rank}. Learner and engine must load the same model."
                )
