"""``GRPOTrainer`` of TRL, configured like a training step of this library."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
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


def trl_trainer(
    model: str,
    tasks: Sequence[Task],
    reward: Callable[[str, str], float],
    folder: str,
    *,
    learning_rate: float,
    lora_rank: int = 0,
    seed: int = 0,
    tasks_per_step: int = TASKS,
    max_tokens: int = MAX_TOKENS,
    micro_batch: int | None = None,
) -> Any:
    """Build a trainer that takes one optimizer step per ``tasks_per_step x SAMPLES`` responses, in float32 on the CPU.

    The loss is the mean over all tokens of the batch. Advantages are divided by the standard deviation of the group.
    There is no KL penalty.

    Args:
        model: name or folder of the model.
        tasks: tasks in order, ``tasks_per_step`` per step.
        reward: returns the reward of a response and a gold answer.
        folder: output folder of TRL.
        learning_rate: constant learning rate without warm-up.
        lora_rank: rank of a LoRA on all linear layers; 0 trains all weights.
        seed: seed of the samples.
        tasks_per_step: number of tasks per step, with ``SAMPLES`` responses each.
        max_tokens: maximum number of tokens per response.
        micro_batch: number of responses per micro-batch; ``None``: all of a step. TRL pads all micro-batches of a step
            to the step's longest response.
    """
    require_trl()
    from datasets import Dataset
    from peft import LoraConfig
    from trl import GRPOConfig, GRPOTrainer

    def pay(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
        return [reward(c[0]["content"], gold) for c, gold in zip(completions, answer, strict=True)]

    responses = tasks_per_step * SAMPLES
    micro_batch = micro_batch or responses
    config = GRPOConfig(
        output_dir=folder,
        seed=seed,
        learning_rate=learning_rate,
        lr_scheduler_type="constant",
        max_steps=len(tasks) // tasks_per_step,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=responses // micro_batch,
        num_generations=SAMPLES,
        shuffle_dataset=False,
        max_completion_length=max_tokens,
        temperature=1.0,
        loss_type="dapo",
        beta=0.0,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    rows = [{"prompt": [{"role": "user", "content": t.question}], "answer": t.answer} for t in tasks]
    lora = LoraConfig(r=lora_rank, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    return GRPOTrainer(
        model=load_model(model, device=torch.device("cpu"), dtype=torch.float32),
        processing_class=load_tokenizer(model),
        args=config,
        reward_funcs=pay,
        train_dataset=Dataset.from_list(rows),
        peft_config=lora if lora_rank else None,
    )


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder for the output of a run."""
    return tempfile.TemporaryDirectory(prefix="reason_envs_benchmark_")
