"""Transfer of weights from a learner to an engine: strict copying, and a digest that both sides compute."""

import ctypes
import hashlib
import sys
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from reason_envs.errors import EngineError
from reason_envs.llm.loading import model_path

_INTEGER_OF_SIZE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_CHUNK = 1 << 24


@torch.no_grad()
def copy_weights(model: nn.Module, source: Mapping[str, Tensor]) -> None:
    """Copy a tensor for each entry of a model's state dict into the model, cast to its data types and devices.

    Raises:
        EngineError: a tensor is missing, unknown, or of another shape. The model is unchanged.
    """
    target = model.state_dict()
    check_weights({name: tensor.shape for name, tensor in target.items()}, source)
    for name, tensor in source.items():
        target[name].copy_(tensor)


def weight_shapes(model: str) -> dict[str, torch.Size]:
    """Return the shape of each tensor of a model's state dict, without loading the weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_path(model)))
    return {name: tensor.shape for name, tensor in empty.state_dict().items()}


def check_weights(shapes: Mapping[str, torch.Size], source: Mapping[str, Tensor]) -> None:
    """Check that weights from the learner match the shapes of an engine's model, by name, exactly.

    Raises:
        EngineError: a tensor is missing, unknown, or of another shape.
    """
    missing, unknown = sorted(shapes.keys() - source.keys()), sorted(source.keys() - shapes.keys())
    if missing or unknown:
        raise EngineError(
            f"The weights do not fit the engine's model: {len(missing)} missing ({_some(missing)}), {len(unknown)} "
            f"unknown ({_some(unknown)}). Learner and engine must load the same model."
        )
    for name, tensor in source.items():
        if tensor.shape != shapes[name]:
            raise EngineError(
                f"Weight {name} has shape {tuple(tensor.shape)}; the engine's model requires {tuple(shapes[name])}. "
                "Learner and engine must load the same model."
            )


def cast(weights: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Cast the floating-point tensors; other tensors are returned unchanged."""
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in weights.items()}


def digest(weights: Mapping[str, Tensor]) -> str:
    """Hash names, shapes, data types and bits of a state dict."""
    return combined({name: fingerprint(name, tensor) for name, tensor in weights.items()})


def combined(fingerprints: Mapping[str, str]) -> str:
    """Return the digest of the tensors with these fingerprints, given by name."""
    text = "".join(fingerprints[name] for name in sorted(fingerprints))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@torch.no_grad()
def fingerprint(name: str, tensor: Tensor) -> str:
    """Return name, shape, data type and a position-weighted checksum of the bits, computed on the tensor's device."""
    bits = tensor.detach().contiguous().view(-1).view(_INTEGER_OF_SIZE[tensor.element_size()])
    sums = []  # two wrapping 64-bit sums per chunk; the second is weighted by position, so it detects swapped values
    for start in range(0, bits.numel(), _CHUNK):
        chunk = bits[start : start + _CHUNK].to(torch.int64)
        weights = torch.arange(1, chunk.numel() + 1, device=bits.device) * 2654435761
        sums += [int(chunk.sum()), int((chunk * weights).sum())]
    return f"{name}{tuple(tensor.shape)}{tensor.dtype}{sums}"


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") or "none"


def return_free_memory() -> None:
    """Return the freed memory of this process to the system, if the C library can (glibc)."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
