"""Options of ``reward_model=transformers``."""

from dataclasses import dataclass

from reason_envs.validation import Checked, limited


@dataclass
class StepRewardModelConfig(Checked):
    """Options of ``reward_model=transformers``."""

    model: str = "embedded"
    """Token classifier to load: ``embedded`` (ships with this package), a folder, or a hub name. Backbone and tokenizer
    may differ from the generator's."""
    device: str = "auto"
    """Device of the model: ``cpu``, ``cuda:N``, or ``auto`` (a GPU if there is one)."""
    dtype: str = "auto"
    """Data type of the weights: ``float32``, ``bfloat16``, ``float16``, or ``auto`` (CPU: float32, GPU: bfloat16)."""
    attention: str = "auto"
    """Attention kernel: ``sdpa``, ``eager``, ``flash_attention_2``, or ``auto`` (``sdpa`` if the model supports it)."""
    load_in_8bit: bool = False
    """Whether to quantize the linear layers to 8 bits (extra ``[quantization]``)."""
    max_batch_tokens: int = limited(16384, at_least=1)
    """Maximum number of tokens per forward pass, including padding. Reduce it if memory runs out."""
    prefix_cache_mb: int = limited(512, at_least=0)
    """Memory in MiB for keys and values that search trees reuse from one step to the next; 0 disables the reuse."""
    positive_label: str | None = None
    """Name of the label that means a right step; ``None``: a usual name is looked up (``right``, ``correct``, ...)."""
