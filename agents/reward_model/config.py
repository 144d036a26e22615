"""Options of the training of step reward models, in a separate file so that listing them does not import torch."""

from dataclasses import dataclass, field
from typing import Any

from agents.reward_model.labels import SamplingConfig
from reason_envs.reward_models.options import StepRewardModelConfig
from reason_envs.validation import Checked, limited


@dataclass
class FineTuningConfig(Checked):
    """Options of the fine-tuning. The defaults suit the embedded model."""

    model: str = "embedded"
    """Backbone: ``embedded``, a folder, or a hub name. It can differ from the generator's model."""
    device: str = "auto"
    """Device of the training: ``auto``, ``cpu`` or ``cuda:N``."""
    learning_rate: float | None = limited(None, at_least=0)
    """Maximum learning rate. It rises linearly during the first 5 % of the steps and then falls along a cosine. null:
    1e-3 for the embedded model, and a rate that suits size and LoRA for others."""
    epochs: int = limited(8, at_least=1)
    """Number of passes over the examples."""
    batch_size: int = limited(64, at_least=1)
    """Number of solutions per forward pass (of prefixes of solutions if the backbone is not causal)."""
    accumulation: int = limited(1, at_least=1)
    """Number of forward passes per optimizer step."""
    max_examples: int | None = None
    """Maximum number of solutions to train on; null: all."""
    balance: bool = True
    """Whether to thin out the most frequent kind of solutions to the size of the second most frequent. The kinds are:
    wrong from the first step, wrong from a later step, without a wrong step."""
    lora_rank: int = limited(0, at_least=0)
    """Rank of a LoRA adapter on all linear layers, merged before saving. 0 trains all weights."""
    gradient_checkpointing: bool = False
    """Whether to recompute activations in the backward pass, which saves memory."""


@dataclass
class RewardModelConfig(SamplingConfig, FineTuningConfig):
    """Options of ``python -m agents.reward_model``."""

    output_dir: str = "runs/reward_model"
    """Folder for the model, ``metrics.json``, the model card and ``labels/``. It must not contain a model yet."""
    seed: int = 0
    """Seed of all random draws."""
    tasks: Any = "chain_sum"
    """Problems: the name of a task family, a mapping with ``name`` and options, or a ``TaskSet``. Training and
    validation use the train split, the evaluation the test split."""
    eval_set: Any = None
    """Problems of the evaluation, in the format of ``tasks``; null: the test split of ``tasks``."""
    engine: Any = "transformers"
    """Generator of the solutions: the name of an engine, a mapping with ``name`` and options, or an engine. An engine
    that is built here is closed before the fine-tuning."""
    problems: int = limited(3000, at_least=1)
    """Number of problems to train on."""
    validation_problems: int = limited(300, at_least=1)
    """Number of further problems of the train split, on which the threshold is chosen."""
    test_problems: int = limited(600, at_least=1)
    """Number of held-out problems."""
    labels_from: str | None = None
    """Folder of labelled solutions: ``labels/`` of an earlier training, or files in its format; null: sample and label
    new solutions."""
    further_labels: str | None = None
    """JSONL file of further labelled solutions to train on, in the same format; null: no further solutions."""


@dataclass
class RunRewardModelConfig(StepRewardModelConfig):
    """Options of ``reward_model=transformers`` in a run."""

    path: str | None = None
    """Folder of a trained step reward model to use instead of ``model``, without training; null: use ``model``."""
    train: bool = False
    """Train a step reward model on the run's problems and generator first, into ``<output_dir>/reward_model``."""
    training: RewardModelConfig = field(default_factory=RewardModelConfig)
    """Options of the training of ``train``. Its problems, generator, seed and step limits are the run's."""
