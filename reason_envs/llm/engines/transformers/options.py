"""Options of ``engine=transformers``."""

from dataclasses import dataclass, field
from typing import Any

from reason_envs.validation import Checked, limited


@dataclass
class LoadedModelConfig(Checked):
    """Options of a model that transformers loads in this process."""

    model: str = "embedded"
    """Model to load: ``embedded`` (ships with this package), a folder, or a hub name."""
    device: str = "auto"
    """Device of the model: ``cpu``, ``cuda:N``, or ``auto`` (a GPU if there is one)."""
    dtype: str = "auto"
    """Data type of the weights: ``float32``, ``bfloat16``, ``float16``, or ``auto`` (CPU: float32, GPU: bfloat16)."""
    attention: str = "auto"
    """Attention kernel: ``sdpa``, ``eager``, ``flash_attention_2``, or ``auto`` (``sdpa`` if the model supports it)."""
    load_in_8bit: bool = False
    """Whether to quantize the linear layers to 8 bits (extra ``[quantization]``), which excludes training."""
    prefix_cache_mb: int = limited(512, at_least=0)
    """Memory in MiB for keys and values that search trees reuse from one step to the next; 0 disables the reuse."""


@dataclass
class TransformersEngineConfig(LoadedModelConfig):
    """Options of ``engine=transformers``."""

    template_options: dict[str, Any] = field(default_factory=dict)
    """Options of the model's chat template, such as ``{enable_thinking: false}``. Empty: the template's defaults."""
    load_in_4bit: bool = False
    """Whether to quantize the linear layers to 4 bits (extra ``[quantization]``), which excludes training."""
    max_batch_size: int = limited(256, at_least=1)
    """Maximum number of samples decoded at the same time. Reduce it if memory runs out."""
    embedding_size: int = limited(0, at_least=0)
    """Number of dimensions to which the hidden state at the end of each sample is projected. Search trees show it as
    features of their nodes. 0: none."""
