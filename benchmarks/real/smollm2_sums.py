"""Does a real model learn with the defaults? SmolLM2-135M-Instruct adds two numbers, with three seeds and a control.

This command does everything. It continues after an interruption:

    python benchmarks/real/smollm2_sums.py policy.model=FOLDER

``FOLDER`` holds the model in Hugging Face format. The control's rewards are coin flips.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "learning"))

from common import LearningBenchmark

BENCHMARK = LearningBenchmark(
    name="smollm2_sums",
    title="GRPO, SmolLM2-135M-Instruct, sums of two numbers",
    options=(
        "env.tasks={name: chain_sum, min_terms: 2, max_terms: 2}",
        *("policy.max_tokens=48", "steps=60", "eval_every=20", "eval_tasks=64", "save_every=10"),
    ),
    arms={"math": (), "random": ("env.reward.name=random", "env.reward.wrong=0", "env.reward.fallbacks=[last_number]")},
    problems=128,
    samples=2,
    reports=Path(__file__).parent,
)

if __name__ == "__main__":
    BENCHMARK.main(__doc__ or "")
