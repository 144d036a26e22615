"""LoRA adapters of PEFT: add, merge without changing the model, and write."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from agents.policies.seeding import seeded
from reason_envs.core import derive_seed
from reason_envs.errors import ReasonEnvsError, first_line, unknown_name
from reason_envs.llm.lora_files import ADAPTER_WEIGHTS

_RECURRENT = ["out_proj", "conv1d", "dt_proj"]
_EXCLUDED = {
    **dict.fromkeys(("falcon_h1", "mamba", "mamba2", "falcon_mamba", "jamba", "nemotron_h"), _RECURRENT),
    **{kind: ["router"] for kind in ("phimoe", "llama4", "llama4_text")},
    "longcat_flash": ["classifier"],
}
"""Linear layers that a new adapter leaves out, by model type: the model uses them in ways that skip an adapter."""
_SAVED = re.compile(r"\.modules_to_save\.\w+\.")
"""What PEFT puts into the names of layers that an adapter trains as a whole."""


def add_adapter(
    model: Any, adapter: str | None, rank: int, alpha: int, dropout: float, seed: int, targets: Sequence[str] = ()
) -> Any:
    """Wrap a model with a trainable LoRA adapter: that of a folder, or a new one (``adapter=None``).

    Updates of a new adapter are scaled by ``alpha / rank``, and the seed keys its initial weights. ``targets`` names
    the layers that get matrices, such as ``q_proj``; empty: all linear layers.

    Raises:
        ReasonEnvsError: the folder does not hold an adapter for this model, or a layer is unknown.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    if adapter is not None:
        if not (Path(adapter) / "adapter_config.json").is_file():
            raise ReasonEnvsError(
                f"policy.adapter={adapter!r} is not the folder of a PEFT adapter: adapter_config.json is missing."
            )
        try:
            return PeftModel.from_pretrained(model, adapter, is_trainable=True).eval()
        except (RuntimeError, ValueError, SafetensorError) as error:
            what = " ".join(" ".join(str(error).splitlines()[:2]).split())
            raise ReasonEnvsError(
                f"policy.adapter={adapter!r} does not fit policy.model, or is damaged: {what} Use an adapter that was "
                "trained on this model."
            ) from error
    linear = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    for target in targets:
        if target.rpartition(".")[2] not in linear:
            raise unknown_name("layer in policy.lora_target_modules", target, linear)
    excluded = None if targets else _EXCLUDED.get(model.config.model_type)
    layers: Any = {"target_modules": list(targets) or "all-linear", "exclude_modules": excluded}
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, task_type="CAUSAL_LM", **layers)
    try:
        with seeded(derive_seed(seed, "lora"), torch.device("cpu")):
            return get_peft_model(model, config).eval()
    except ValueError as error:
        raise ReasonEnvsError(
            f"{type(model).__name__} cannot get an adapter on these layers: {first_line(error)} Set "
            "policy.lora_target_modules to other layers."
        ) from error


@torch.no_grad()
def merged_weights(model: Any) -> dict[str, Tensor]:
    """Return the weights under the base model's names, with the adapter merged in as PEFT merges it.

    The base weights are restored exactly after each layer, so they do not drift.

    Raises:
        RuntimeError: PEFT cannot merge a layer, such as an adapter with a bias into a layer without.
    """
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    if not isinstance(model, PeftModel):
        return {name: tensor.detach() for name, tensor in model.state_dict().items()}
    base = model.get_base_model()
    weights = {}
    for name, tensor in base.state_dict().items():
        if ".lora_" not in name and ".original_module." not in name:
            weights[_SAVED.sub(".", name.replace(".base_layer", ""))] = tensor
    adapted: dict[str, list[Any]] = {}  # several adapters of one layer are nested (experts)
    for name, module in base.named_modules():
        if isinstance(module, LoraLayer):
            adapted.setdefault(name.replace(".base_layer", ""), []).append(module)
    for name, layers in adapted.items():
        weights |= {f"{name}.{part}": tensor for part, tensor in _merged_layer(layers).items()}
    return weights


def _merged_layer(layers: Sequence[Any]) -> dict[str, Tensor]:
    """Return the tensors of a layer with its adapters merged in; the layer keeps its own."""
    base = layers[0].get_base_layer()
    own = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    try:
        for layer in layers:
            layer.merge()
        return {name: tensor.clone() for name, tensor in base.state_dict().items()}
    finally:
        base.load_state_dict(own)
        for layer in layers:
            layer.merged_adapters.clear()


@torch.no_grad()
def adapter_weights(model: Any) -> dict[str, Tensor]:
    """Return the matrices of the active adapter under PEFT's names."""
    from peft import get_peft_model_state_dict

    matrices = get_peft_model_state_dict(model, adapter_name=model.active_adapter, save_embedding_layers=False)
    return {name: tensor.detach() for name, tensor in matrices.items()}


def write_adapter(model: Any, matrices: Mapping[str, Tensor], folder: Path) -> None:
    """Write an adapter with the given matrices into a folder in PEFT's format."""
    model.peft_config[model.active_adapter].save_pretrained(str(folder))
    save_file({name: tensor.cpu().contiguous() for name, tensor in matrices.items()}, folder / ADAPTER_WEIGHTS)
