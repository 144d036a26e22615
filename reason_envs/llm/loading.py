"""Loading of models, optionally quantized or from GGUF files, and tokenizers."""

import importlib.util
import logging
import re
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from reason_envs.errors import OptionError, first_line
from reason_envs.llm import embedded
from reason_envs.validation import check_choice, require

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_loading = threading.Lock()
"""Held while a model is loaded, because transformers replaces functions of torch for all threads meanwhile."""
ATTENTION = ("auto", "sdpa", "eager", "flash_attention_2")
# bitsandbytes warns about rounding at every matrix product in 8 bits, and whenever PEFT looks for it.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def resolve_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. ``auto`` prefers a GPU.

    Raises:
        OptionError: the name is unknown, or the device does not exist on this machine.
    """
    if name == "auto":
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise OptionError("device", name, "must be one of auto, cpu, cuda, cuda:N.")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise OptionError(
            "device",
            name,
            f"does not exist: PyTorch {torch.__version__} finds {torch.cuda.device_count()} CUDA device(s). Use "
            "device=auto or device=cpu, or install a CUDA build of torch.",
        )
    return torch.device(name)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the data type of a name. ``auto`` is float32 on a CPU and bfloat16 on a GPU.

    Raises:
        OptionError: the name is unknown.
    """
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    check_choice("dtype", name, ["auto", *DTYPES])
    return DTYPES[name]


def is_gguf(name: str) -> bool:
    """Return whether a model's name is a GGUF file."""
    return name.endswith(".gguf")


def model_path(name: str) -> str:
    """Return the path or hub name of a model.

    Args:
        name: ``embedded`` or ``embedded:NAME`` (models that ship with this package), a folder, a GGUF file, or a hub
            name.

    Raises:
        ReasonEnvsError: the folder, the file or the embedded model does not exist.
    """
    if embedded.is_embedded(name):
        return str(embedded.path(name.partition(":")[2] or "base"))
    exists = Path(name).expanduser().is_file() if is_gguf(name) else Path(name).expanduser().is_dir()
    if not exists and (name.startswith((".", "/", "~")) or is_gguf(name)):
        kind = "file" if is_gguf(name) else "folder"
        raise OptionError("model", name, f"is a path, but this {kind} does not exist. Check the path.")
    return str(Path(name).expanduser()) if name.startswith("~") else name


def load_tokenizer(name: str, template_options: Mapping[str, Any] | None = None, *, generates: bool = True) -> Any:
    """Load a model's tokenizer. A tokenizer without a padding token pads with its end-of-sequence token.

    Args:
        name: name or folder of the model.
        template_options: options of the chat template, by name. They become a part of the template.
        generates: the model writes text, which must end.

    Raises:
        OptionError: the tokenizer cannot be loaded, it lacks a needed end-of-sequence token, or its template lacks an
            option.
    """
    from transformers import AutoTokenizer

    tokenizer = _load(name, "tokenizer", AutoTokenizer.from_pretrained)
    if tokenizer.eos_token_id is None and (generates or tokenizer.pad_token_id is None):
        raise OptionError(
            "model", name, "has a tokenizer without an end-of-sequence token: set eos_token in tokenizer_config.json."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    for option, value in (template_options or {}).items():
        if not re.search(rf"\b{re.escape(option)}\b", str(tokenizer.chat_template)):
            rule = f"must name options of the model's chat template, which does not read {option!r}. Leave it out."
            raise OptionError("template_options", dict(template_options or {}), rule)
        tokenizer.chat_template = f"{{% set {option} = {value!r} %}}{tokenizer.chat_template}"
    return tokenizer


def check_vocabulary(name: str, model: Any, tokenizer: Any) -> None:
    """Check that the model has an embedding for every token of its tokenizer.

    Raises:
        OptionError: tokens were added to the tokenizer, but the model was not resized.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise OptionError(
            "model",
            name,
            f"has {rows} embeddings, but its tokenizer has {len(tokenizer)} tokens. Resize the model with "
            "model.resize_token_embeddings(len(tokenizer)) and save it, or remove the added tokens.",
        )


def load_model(
    name: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    attention: str = "auto",
    auto_class: str = "AutoModelForCausalLM",
    load_in_8bit: bool = False,
    load_in_4bit: bool = False,
    **options: Any,
) -> Any:
    """Load a model in evaluation mode.

    Args:
        name: ``embedded``, ``embedded:NAME``, a folder, a GGUF file (its weights become plain ones), or a hub name.
        device: device of the weights.
        dtype: data type of the weights that are not quantized.
        attention: attention kernel: ``sdpa``, ``eager``, ``flash_attention_2``, or ``auto`` (``sdpa`` if the model
            supports it).
        auto_class: the ``AutoModelFor...`` class of transformers that loads the model.
        load_in_8bit: whether to quantize the linear layers to 8 bits (bitsandbytes), except the output head.
        load_in_4bit: whether to quantize the linear layers to 4 bits (NF4), except the output head.
        options: further arguments of ``from_pretrained``, such as ``num_labels``.

    Raises:
        OptionError: the attention kernel is unknown, FlashAttention or bitsandbytes is missing, or the model does
            not exist, is damaged, or lacks weights. Heads other than that of a language model may start random.
    """
    import transformers

    _check_attention(attention)
    loader = getattr(transformers, auto_class).from_pretrained
    options |= {"dtype": dtype, "output_loading_info": True}
    if is_gguf(name):  # its weights become plain ones
        options.setdefault("quantization_config", transformers.GgufConfig(dequantize=True))
    if attention != "auto":
        options["attn_implementation"] = attention
    if load_in_8bit or load_in_4bit:
        # Quantized layers cannot be moved afterwards.
        options |= {"device_map": {"": device}, **_quantization(dtype, load_in_8bit, load_in_4bit)}
    with _no_progress_bars():
        model, found = _load(name, "model", loader, **options)
    if auto_class == "AutoModelForCausalLM":
        _check_causal(name, model, sorted(found["missing_keys"]))
    if is_gguf(name):  # its weights are plain ones, so it can be trained and saved
        model.hf_quantizer = None
    _complete_generation_config(model)
    return (model if is_quantized(model) else model.to(device)).eval()


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Hide the bars with which transformers loads weights."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _check_causal(name: str, model: Any, missing: list[str]) -> None:
    """Refuse models with missing weights, encoders (tokens see the next ones), and decoders that need an encoder."""
    from transformers.models.auto import modeling_auto as known

    kind, encoders = model.config.model_type, {*known.MODEL_FOR_MASKED_LM_MAPPING_NAMES, "bert-generation"}
    if missing:
        rule = f"is incomplete: {len(missing)} weights are missing from its files ({', '.join(missing[:3])}) and would "
        rule += "stay random. Use the complete model."
    elif kind in known.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        rule = f"is the decoder of an encoder-decoder model ({type(model).__name__}): use a causal model."
    elif model.config.to_dict().get("is_decoder") is False and kind in encoders:
        rule = f"is an encoder ({type(model).__name__} with is_decoder=false), which cannot write text: use a causal "
        rule += "model, or set is_decoder to true in its config.json if it was trained so."
    else:
        return
    raise OptionError("model", name, rule)


def _check_attention(attention: str) -> None:
    check_choice("attention", attention, ATTENTION)
    if attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        rule = "needs the package flash-attn and a CUDA device. Install it with `pip install flash-attn "
        raise OptionError("attention", attention, f"{rule}--no-build-isolation`, or use attention=sdpa.")


def _complete_generation_config(model: Any) -> None:
    """Let a generation config with sampling options sample; transformers refuses to save it otherwise."""
    config = getattr(model, "generation_config", None)
    if config is not None and not config.do_sample:
        config.do_sample = any(getattr(config, name) is not None for name in ("temperature", "top_p", "top_k", "min_p"))


def is_quantized(model: Any) -> bool:
    """Return whether a loaded model is quantized, by the options above or in its files."""
    return getattr(model, "hf_quantizer", None) is not None


def _quantization(dtype: torch.dtype, load_in_8bit: bool, load_in_4bit: bool) -> dict[str, Any]:
    from transformers import BitsAndBytesConfig

    if load_in_8bit and load_in_4bit:
        raise OptionError("load_in_8bit", True, "excludes load_in_4bit=True: set only one of them.")
    require("load_in_8bit=True" if load_in_8bit else "load_in_4bit=True", "quantization")
    config = BitsAndBytesConfig(
        load_in_8bit=load_in_8bit, load_in_4bit=load_in_4bit, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": config}


def _load(name: str, kind: str, loader: Any, **options: Any) -> Any:
    path = model_path(name)
    if is_gguf(path):
        require(f"model={path}", "gguf")
        path, options["gguf_file"] = str(Path(path).parent), Path(path).name
    try:
        with _loading:
            return loader(path, **options)
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, LookupError, RuntimeError, SafetensorError, struct.error) as error:
        needed = ("config.json", "tokenizer.json", "tokenizer_config.json")
        lacking = [file for file in needed if Path(path).is_dir() and not (Path(path) / file).exists()]
        reason = f"the folder has no {' and no '.join(lacking)}." if lacking else first_line(error)
        raise OptionError(
            "model",
            name,
            f"cannot be loaded ({kind}): {reason} Give `embedded`, a folder with config.json, "
            "tokenizer.json, tokenizer_config.json and model.safetensors, a GGUF file, or the name of a model on the "
            "Hugging Face hub, which requires network access or a filled cache.",
        ) from error
