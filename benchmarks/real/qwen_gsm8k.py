"""Does GRPO improve Qwen2.5-Coder-0.5B-Instruct on GSM8K? A LoRA in bfloat16, evaluated on held-out problems.

This command does everything. It continues after an interruption:

    python benchmarks/real/qwen_gsm8k.py --seeds 0 policy.model=FOLDER env.tasks.path=FOLDER

The first folder holds the model in Hugging Face format, the second ``train.jsonl`` and ``test.jsonl`` of GSM8K. The
control's rewards are coin flips.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "learning"))

from common import LearningBenchmark

BENCHMARK = LearningBenchmark(
    name="qwen_gsm8k",
    title="GRPO with a LoRA, Qwen2.5-Coder-0.5B-Instruct, GSM8K",
    options=(
        "env.tasks={name: gsm8k}",
        *("policy.lora_rank=16", "algo.optimizer.learning_rate=2e-4", "policy.max_tokens=256"),
        *("algo.tasks_per_step=4", "algo.samples_per_task=8", "steps=24", "save_every=4", "eval_tasks=8"),
        *("policy.dtype=bfloat16", "policy.precision=bfloat16", "engine.dtype=bfloat16"),
    ),
    arms={"math": (), "random": ("env.reward.name=random", "env.reward.wrong=0", "env.reward.fallbacks=[last_number]")},
    problems=150,
    samples=1,
    reports=Path(__file__).parent,
)

if __name__ == "__main__":
    BENCHMARK.main(__doc__ or "")
