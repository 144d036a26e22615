"""Options of ``reward_model=transformers``."""

from dataclasses import dataclass

from reason_envs.llm.engines.transformers.options import LoadedModelConfig
from reason_envs.validation import limited


@dataclass
class StepRewardModelConfig(LoadedModelConfig):
    """Options of ``reward_model=transformers``."""

    model: str = "embedded"
    """Token classifier to load: ``embedded`` (ships with this package), a folder, or a hub name. Backbone and tokenizer
    may differ from the generator's."""
    max_batch_tokens: int = limited(16384, at_least=1)
    """Maximum number of tokens per forward pass, including padding. Reduce it if memory runs out."""
    positive_label: str | None = None
    """Name of the label that means a right step; ``None``: a usual name is looked up (``right``, ``correct``, ...)."""
