"""Options of a language policy, checked when they are given."""

from __future__ import annotations

from dataclasses import dataclass, field

from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.llm.engine import Sampling
from reason_envs.llm.loading import DTYPES

SHARING = ("shared", "lora_per_role", "model_per_role")
"""Who plays the roles of a multi-agent environment."""
REFERENCE_DEVICES = ("policy", "cpu", "offload")
"""Where a frozen copy of the model may lie."""


@dataclass
class LanguagePolicyConfig:
    """Options of ``policy=language``."""

    model: str = "embedded"
    """``embedded``, a folder, or a hub name."""
    sharing: str = "shared"
    """Who plays the roles of a multi-agent environment: ``shared`` (one model plays all, told by the prompt which),
    ``lora_per_role`` (an adapter each) or ``model_per_role`` (all weights each)."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda:N``."""
    dtype: str = "auto"
    """Of the weights: ``auto`` (float32 on a CPU or for full fine-tuning, else bfloat16), or a name."""
    precision: str = "auto"
    """Of training forwards: ``auto`` (float32 on a CPU, bfloat16 autocast on a GPU), ``float32``, ``bfloat16``,
    or ``float16`` (with loss scaling)."""
    attention: str = "auto"
    """Attention kernel: ``sdpa``, ``eager``, ``flash_attention_2``, or ``auto`` (``sdpa`` if the model supports it)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    lora_rank: int = 0
    """Rank of the LoRA matrices; 0 trains the full model."""
    lora_target_modules: list[str] = field(default_factory=list)
    """Layers that get LoRA matrices, such as ``[q_proj, v_proj]``; empty: all linear ones."""
    lora_alpha: int = 32
    """LoRA updates are scaled by ``lora_alpha / lora_rank``."""
    lora_dropout: float = 0.0
    """Dropout before the LoRA matrices during updates."""
    adapter: str | None = None
    """Folder of an existing LoRA adapter to train on (its rank, scale, dropout and targets are kept)."""
    reference_device: str = "policy"
    """Where a frozen copy of a fully fine-tuned model lies: ``policy`` (the same device), ``cpu``, or ``offload`` (in
    the computer's memory, moved to the policy's device while it computes)."""
    max_tokens: int = 128
    """Most tokens of a response."""
    temperature: float = 1.0
    """Sampling temperature while training."""
    top_p: float = 1.0
    """Nucleus sampling while training; below 1 the ratios are those of the uncut distribution."""
    top_k: int = 0
    """Top-k sampling while training; 0 is off."""
    stop: list[str] = field(default_factory=list)
    """Strings that end a response."""
    max_prompt_tokens: int = 1024
    """Longest prompt."""
    overlong_prompts: str = "error"
    """What happens to tasks with a longer prompt: ``error`` or ``filter`` (left out and counted)."""

    def __post_init__(self) -> None:
        _validate(self)

    @property
    def uses_lora(self) -> bool:
        """Whether only an adapter is trained."""
        return bool(self.lora_rank or self.adapter)

    def sampling(self) -> Sampling:
        """The sampling parameters of training rollouts."""
        return Sampling(self.max_tokens, self.temperature, self.top_p, self.top_k, tuple(self.stop))


def _validate(config: LanguagePolicyConfig) -> None:
    if config.sharing not in SHARING:
        raise unknown_name("policy.sharing", config.sharing, SHARING)
    if config.sharing != "shared" and config.uses_lora != (config.sharing == "lora_per_role"):
        raise ReasonEnvsError(
            f"policy.sharing={config.sharing} with policy.lora_rank={config.lora_rank} and policy.adapter="
            f"{config.adapter!r}: lora_per_role trains an adapter for each role (give policy.lora_rank, or "
            "policy.adapter), model_per_role all weights of each (give neither)."
        )
    if config.precision != "auto" and config.precision not in DTYPES:
        raise unknown_name("precision", config.precision, ["auto", *DTYPES])
    if config.dtype == "float16" and not (config.lora_rank or config.adapter):
        raise ReasonEnvsError(
            "policy.dtype=float16 has too little range for weights that are trained: use policy.dtype=float32 with "
            "policy.precision=float16, or LoRA."
        )
    if config.temperature <= 0:
        raise ReasonEnvsError(f"policy.temperature={config.temperature}: training needs a temperature above 0.")
    if not 0 < config.top_p <= 1 or config.top_k < 0 or config.max_tokens < 1:
        raise ReasonEnvsError(
            f"policy.top_p={config.top_p}, policy.top_k={config.top_k}, policy.max_tokens={config.max_tokens}: they "
            "must lie in (0, 1], [0, ...) and [1, ...)."
        )
    if config.overlong_prompts not in ("error", "filter"):
        raise unknown_name("policy.overlong_prompts", config.overlong_prompts, ["error", "filter"])
    if config.reference_device not in REFERENCE_DEVICES:
        raise unknown_name("policy.reference_device", config.reference_device, REFERENCE_DEVICES)
    if config.lora_rank < 0 or (config.adapter and config.lora_rank):
        raise ReasonEnvsError(
            f"policy.lora_rank={config.lora_rank} with policy.adapter={config.adapter!r}: give a rank for a new "
            "adapter, or the folder of an existing one (its rank is kept), not both."
        )
    if not 0 <= config.lora_dropout < 1 or (config.lora_dropout and not config.lora_rank):
        raise ReasonEnvsError(
            f"policy.lora_dropout={config.lora_dropout} with policy.lora_rank={config.lora_rank}: it must lie in "
            "[0, 1), and it is for a new adapter (policy.lora_rank > 0); an existing one keeps its own."
        )
    if config.lora_target_modules and not config.lora_rank:
        raise ReasonEnvsError(
            f"policy.lora_target_modules={config.lora_target_modules} with policy.lora_rank={config.lora_rank}: they "
            "are for a new adapter (policy.lora_rank > 0); an existing one keeps its own."
        )
