"""``GRPOTrainer`` of TRL, configured like a training step of this library."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.loading import load_model, load_tokenizer
from reason_envs.tasks import Task

TASKS = 32
SAMPLES = 8
MAX_TOKENS = 128


def require_trl() -> None:
    """Raise with the command that installs TRL if it is missing."""
    if importlib.util.find_spec("trl") is None:
        raise ReasonEnvsError("This comparison needs TRL. Install it with: pip install trl==1.16.0")


@dataclass(frozen=True)
class Setting:
    """What a training step does on both sides."""

    model: str = "embedded"
    """Name or folder of the model."""
    lora_rank: int = 0
    """Rank of a LoRA on all linear layers; 0 trains all weights."""
    tasks: int = TASKS
    """Number of problems per step, with ``SAMPLES`` responses each."""
    max_tokens: int = MAX_TOKENS
    """Maximum number of tokens per response."""
    micro_batch: int | None = None
    """Number of responses per micro-batch of TRL; ``None``: all of a step. TRL pads every micro-batch to the step's
    longest response."""
    dtype: str = "float32"
    """Data type of generation and of forward passes. Trained weights are float32."""


def trl_trainer(
    setting: Setting,
    tasks: Sequence[Task],
    reward: Callable[[str, str], float],
    folder: str,
    *,
    learning_rate: float,
    seed: int = 0,
) -> Any:
    """Build a trainer that takes one optimizer step per training step, on the CPU.

    Args:
        setting: model and sizes.
        tasks: tasks in order, ``setting.tasks`` per step.
        reward: returns the reward of a response and a gold answer.
        folder: output folder of TRL.
        learning_rate: constant learning rate without warm-up.
        seed: seed of the samples.
    """
    require_trl()
    from datasets import Dataset
    from peft import LoraConfig
    from trl import GRPOTrainer

    def pay(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
        return [reward(c[0]["content"], gold) for c, gold in zip(completions, answer, strict=True)]

    rows = [{"prompt": [{"role": "user", "content": t.question}], "answer": t.answer} for t in tasks]
    lora = LoraConfig(r=setting.lora_rank, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    return GRPOTrainer(
        model=load_model(setting.model, device=torch.device("cpu"), dtype=torch.float32),
        processing_class=load_tokenizer(setting.model),
        args=_config(setting, len(tasks) // setting.tasks, folder, learning_rate, seed),
        reward_funcs=pay,
        train_dataset=Dataset.from_list(rows),
        peft_config=lora if setting.lora_rank else None,
    )


def _config(setting: Setting, steps: int, folder: str, learning_rate: float, seed: int) -> Any:
    """Return TRL's options: a mean over all tokens, advantages divided by the group's deviation, and no KL penalty."""
    from trl import GRPOConfig

    responses = setting.tasks * SAMPLES
    micro_batch = setting.micro_batch or responses
    return GRPOConfig(
        output_dir=folder,
        seed=seed,
        learning_rate=learning_rate,
        lr_scheduler_type="constant",
        max_steps=steps,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=responses // micro_batch,
        num_generations=SAMPLES,
        shuffle_dataset=False,
        max_completion_length=setting.max_tokens,
        temperature=1.0,
        loss_type="dapo",
        beta=0.0,
        bf16=setting.dtype == "bfloat16",
        gradient_checkpointing=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder for the output of a run."""
    return tempfile.TemporaryDirectory(prefix="reason_envs_benchmark_")
