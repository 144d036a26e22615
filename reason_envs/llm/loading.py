"""Loading models, quantized where asked, and tokenizers, with errors that say what to do."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.llm import embedded

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# It says at every product of matrices in 8 bits that it rounds, and speaks up wherever PEFT looks for it.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
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
    """Resolve a model name: ``embedded`` or ``embedded:NAME`` (they ship with the package), a folder, or a hub name."""
    kind, _, shipped = name.partition(":")
    if kind == "embedded":
        return str(embedded.path(shipped or "base"))
    if name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise ReasonEnvsError(f"model={name!r} looks like a folder, but there is none. Check the path.")
    return str(Path(name).expanduser()) if name.startswith("~") else name


def load_tokenizer(name: str) -> Any:
    """Load a model's tokenizer."""
    from transformers import AutoTokenizer

    return _load(name, "tokenizer", AutoTokenizer.from_pretrained)


def load_model(
    name: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    attention: str = "sdpa",
    auto_class: str = "AutoModelForCausalLM",
    load_in_8bit: bool = False,
    load_in_4bit: bool = False,
    **options: Any,
) -> Any:
    """Load a model in evaluation mode.

    Args:
        name: ``embedded``, a folder, or a hub name.
        device: where it lies.
        dtype: of the weights; of those that stay as they are, where the linear layers are quantized.
        attention: ``sdpa``, ``eager`` or ``flash_attention_2``.
        auto_class: which of transformers' ``AutoModelFor...`` classes loads it.
        load_in_8bit: quantize the linear layers to 8 bits (bitsandbytes); the output head stays as it is.
        load_in_4bit: quantize them to 4 bits (NF4) instead.
        options: further arguments of ``from_pretrained``, such as ``num_labels``.

    Raises:
        ReasonEnvsError: unknown attention kernel, missing FlashAttention or bitsandbytes, or a model that cannot be
            found, is damaged, or lacks weights (those of a new head, other than a language model's, start random).
    """
    import transformers

    if attention not in ATTENTION:
        raise unknown_name("attention", attention, ATTENTION)
    if attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        raise ReasonEnvsError(
            "attention=flash_attention_2 needs the package flash-attn and a CUDA device. "
            "Install it with `pip install flash-attn --no-build-isolation`, or use attention=sdpa."
        )
    loader = getattr(transformers, auto_class).from_pretrained
    options |= {"dtype": dtype, "attn_implementation": attention, "output_loading_info": True}
    if load_in_8bit or load_in_4bit:
        # Quantized layers cannot be moved afterwards.
        options |= {"device_map": {"": device}, **_quantization(dtype, load_in_8bit, load_in_4bit)}
    model, found = _load(name, "model", loader, **options)
    if found["missing_keys"] and auto_class == "AutoModelForCausalLM":
        raise ReasonEnvsError(
            f"The files of the model {name!r} lack {len(found['missing_keys'])} weights "
            f"({', '.join(sorted(found['missing_keys'])[:3])}), which would stay random: get the whole model."
        )
    return (model if is_quantized(model) else model.to(device)).eval()


def is_quantized(model: Any) -> bool:
    """Whether a loaded model's weights are quantized, by our options or as they were stored."""
    return getattr(model, "hf_quantizer", None) is not None


def _quantization(dtype: torch.dtype, load_in_8bit: bool, load_in_4bit: bool) -> dict[str, Any]:
    from transformers import BitsAndBytesConfig

    if load_in_8bit and load_in_4bit:
        raise ReasonEnvsError("load_in_8bit=true and load_in_4bit=true exclude each other: give one of them.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ReasonEnvsError(
            f"load_in_{8 if load_in_8bit else 4}bit=true needs bitsandbytes: `pip install 'reason-envs[quantization]'`."
        )
    config = BitsAndBytesConfig(
        load_in_8bit=load_in_8bit,
        load_in_4bit=load_in_4bit,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config}


def _load(name: str, what: str, loader: Any, **options: Any) -> Any:
    try:
        return loader(model_path(name), **options)
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ReasonEnvsError(
            f"Cannot load the {what} {name!r}: {_first_line(error)} Give `embedded`, a folder with config.json, "
            "tokenizer.json, tokenizer_config.json and model.safetensors, or the name of a model on the Hugging Face "
            "hub (which needs a network or a filled cache)."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
