"""Options of a language policy."""

from dataclasses import dataclass, field
from typing import Any

from reason_envs.errors import OptionError
from reason_envs.llm.engine import Sampling
from reason_envs.validation import Checked, limited, one_of


@dataclass
class ShardingConfig(Checked):
    """Division of a language policy's training over several processes."""

    shard: str = limited("none", one_of=("none", "full", "hybrid"))
    """Place of weights, gradients and optimizer states: ``none`` (each process holds all of them), ``full`` (each holds
    a part), or ``hybrid`` (each node holds all of them, and each of its processes a part)."""
    offload: str = limited("none", one_of=("none", "all"))
    """Tensors that wait in the computer's memory until they are needed: ``none``, or ``all`` (weights, gradients and
    optimizer states; the optimizer computes on the CPU)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.offload != "none" and self.shard == "none":
            raise OptionError("offload", self.offload, "needs shard=full or shard=hybrid.")


@dataclass
class LanguagePolicyConfig(Checked):
    """Options of ``policy=language``."""

    model: str = "embedded"
    """Model to train: ``embedded`` (it ships with the package), a folder, or a name on the Hugging Face hub."""
    sharing: str = limited("shared", one_of=("shared", "lora_per_role", "model_per_role"))
    """Sharing of weights between the roles of a multi-agent environment: ``shared`` (one model plays all roles, and the
    prompt names the role), ``lora_per_role`` (one adapter per role) or ``model_per_role`` (one model per role)."""
    template_options: dict[str, Any] = field(default_factory=dict)
    """Options of the model's chat template, such as ``{enable_thinking: false}``. Empty: the template's defaults."""
    device: str = "auto"
    """Device of the model: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda:N``."""
    dtype: str = "auto"
    """Data type of the weights: ``auto`` (float32 on a CPU or for full fine-tuning, otherwise bfloat16), or a name such
    as ``bfloat16``."""
    precision: str = "auto"
    """Data type of training forward passes: ``auto`` (float32 on a CPU, bfloat16 autocast on a GPU), ``float32``,
    ``bfloat16``, or ``float16`` (with loss scaling)."""
    attention: str = "auto"
    """Attention kernel: ``sdpa``, ``eager``, ``flash_attention_2``, or ``auto`` (``sdpa`` if the model supports it)."""
    gradient_checkpointing: bool = False
    """Whether the backward pass recomputes activations, which saves memory and takes about a third more time."""
    lora_rank: int = limited(0, at_least=0)
    """Rank of the matrices of a new LoRA adapter; 0 trains the full model."""
    lora_target_modules: list[str] = field(default_factory=list)
    """Names of the layers that get LoRA matrices, such as ``[q_proj, v_proj]``. Empty: all linear layers."""
    lora_alpha: int = limited(32, at_least=1)
    """Scale of LoRA updates, which are multiplied by ``lora_alpha / lora_rank``."""
    lora_dropout: float = 0.0
    """Dropout rate before the LoRA matrices during updates."""
    adapter: str | None = None
    """Folder of a LoRA adapter to continue training, with its rank, scale, dropout and layers; ``None``: none."""
    reference_device: str = limited("policy", one_of=("policy", "cpu", "offload"))
    """Place of the reference, a frozen copy of the model: ``policy`` (the policy's device), ``cpu`` (it also
    computes there), or ``offload`` (in the computer's memory; it computes on the policy's device)."""
    max_tokens: int = limited(128, at_least=1)
    """Maximum number of tokens per response."""
    temperature: float = limited(1.0, above=0)
    """Sampling temperature of training episodes."""
    top_p: float = limited(1.0, above=0, within=(0, 1))
    """Probability mass of nucleus sampling in training episodes. Importance ratios use the full distribution."""
    top_k: int = limited(0, at_least=0)
    """Number of most likely tokens to sample from in training episodes; 0 keeps all tokens."""
    stop: list[str] = field(default_factory=list)
    """Strings that end a response."""
    max_prompt_tokens: int = 1024
    """Maximum number of tokens per prompt."""
    overlong_prompts: str = limited("error", one_of=("error", "filter"))
    """Handling of tasks whose prompt is too long: ``error`` stops it before training, ``filter`` leaves the
    tasks out and reports their number."""

    def __post_init__(self) -> None:
        from reason_envs.llm.loading import DTYPES

        super().__post_init__()
        one_of(self, precision=("auto", *DTYPES), dtype=("auto", *DTYPES))
        if self.sharing != "shared" and self.uses_lora != (self.sharing == "lora_per_role"):
            raise OptionError(
                "sharing",
                self.sharing,
                f"does not fit lora_rank={self.lora_rank} and adapter={self.adapter!r}: lora_per_role trains one "
                "adapter per role (set lora_rank or adapter), model_per_role all weights of each role (set neither).",
            )
        if self.dtype == "float16" and not self.uses_lora:
            rule = "has too little range for trained weights: set dtype=float32 and precision=float16, or use LoRA."
            raise OptionError("dtype", self.dtype, rule)
        if self.adapter and self.lora_rank:
            rule = f"cannot be combined with adapter={self.adapter!r}: set a rank for a new one, or a folder."
            raise OptionError("lora_rank", self.lora_rank, rule)
        if not 0 <= self.lora_dropout < 1:
            raise OptionError("lora_dropout", self.lora_dropout, "must lie in [0, 1).")
        for name, default in (("lora_alpha", 32), ("lora_dropout", 0.0), ("lora_target_modules", [])):
            if (value := getattr(self, name)) != default and not self.lora_rank:
                rule = "needs lora_rank > 0: it applies to a new adapter; an existing one keeps its own."
                raise OptionError(name, value, rule)

    @property
    def uses_lora(self) -> bool:
        """Whether an adapter is trained instead of the full model."""
        return bool(self.lora_rank or self.adapter)

    def sampling(self) -> Sampling:
        """Return the sampling parameters of training episodes."""
        return Sampling(self.max_tokens, self.temperature, self.top_p, self.top_k, tuple(self.stop))
