"""Loading causal language models and tokenizers, with errors that say what to do."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.llm import embedded

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ATTENTION = ("sdpa", "eager", "flash_attention_2")


def resolve_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into a device that exists here."""
    if name == "auto":
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise ReasonEnvsError(f"device={name!r} is not one of auto, cpu, cuda, cuda:N.")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ReasonEnvsError(
            f"device={name!r} does not exist: {torch.cuda.device_count()} CUDA device(s) are visible to PyTorch "
            f"{torch.__version__}. Use device=auto or device=cpu, or install a CUDA build of torch."
        )
    return torch.device(name)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Turn a name into a dtype; ``auto`` is float32 on a CPU and bfloat16 on a GPU."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in DTYPES:
        raise unknown_name("dtype", name, ["auto", *DTYPES])
    return DTYPES[name]


def model_path(name: str) -> str:
    """Resolve a model name: ``embedded`` (ships with the package), a local folder, or a hub name."""
    if name == "embedded":
        return str(embedded.path("base"))
    if name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise ReasonEnvsError(f"model={name!r} looks like a folder, but there is none. Check the path.")
    return str(Path(name).expanduser()) if name.startswith("~") else name


def load_tokenizer(name: str) -> Any:
    """Load a model's tokenizer."""
    from transformers import AutoTokenizer

    return _load(name, "tokenizer", AutoTokenizer.from_pretrained)


def load_model(name: str, *, device: torch.device, dtype: torch.dtype, attention: str = "sdpa") -> Any:
    """Load a causal language model in evaluation mode.

    Raises:
        ReasonEnvsError: unknown attention kernel, missing FlashAttention, or a model that cannot be found.
    """
    from transformers import AutoModelForCausalLM

    if attention not in ATTENTION:
        raise unknown_name("attention", attention, ATTENTION)
    if attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        raise ReasonEnvsError(
            "attention=flash_attention_2 needs the package flash-attn and a CUDA device. "
            "Install it with `pip install flash-attn --no-build-isolation`, or use attention=sdpa."
        )
    model = _load(name, "model", AutoModelForCausalLM.from_pretrained, dtype=dtype, attn_implementation=attention)
    return model.to(device).eval()


def _load(name: str, what: str, loader: Any, **options: Any) -> Any:
    try:
        return loader(model_path(name), **options)
    except (OSError, ValueError) as error:
        raise ReasonEnvsError(
            f"Cannot load the {what} {name!r}: {_first_line(error)} Give `embedded`, a folder with config.json, "
            "tokenizer.json, tokenizer_config.json and model.safetensors, or the name of a model on the Hugging Face "
            "hub (which needs a network or a filled cache)."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
