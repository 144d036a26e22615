"""GGUF files as models: transformers reads them, and their quantized weights become plain ones."""

import importlib.util
from pathlib import Path
from typing import Any

from reason_envs.errors import OptionError

SUFFIX = ".gguf"


def is_gguf(name: str) -> bool:
    """Return whether a model's name is a GGUF file."""
    return name.endswith(SUFFIX)


def source(path: str) -> tuple[str, dict[str, Any]]:
    """Return the first argument of ``from_pretrained`` and the others that a GGUF file needs; none for other models."""
    if not is_gguf(path):
        return path, {}
    if importlib.util.find_spec("gguf") is None:
        raise OptionError("model", path, "is a GGUF file, which needs a package: `pip install 'reason-envs[gguf]'`.")
    return str(Path(path).parent), {"gguf_file": Path(path).name}


def dequantized(name: str) -> dict[str, Any]:
    """Return the arguments of ``from_pretrained`` that turn the weights of a GGUF file into plain ones."""
    from transformers import GgufConfig

    return {"quantization_config": GgufConfig(dequantize=True)} if is_gguf(name) else {}


def forget_quantizer(name: str, model: Any) -> None:
    """Let a model from a GGUF file count as a plain one, which can be trained and saved."""
    if is_gguf(name):
        model.hf_quantizer = None
