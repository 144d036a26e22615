"""Does the default run learn? Three seeds, held-out problems, and a control whose rewards are coin flips.

This command does everything. It continues after an interruption:

    python benchmarks/learning/single_turn_math.py

Each run trains with ``python -m agents.train`` and its defaults, the first command of the README.
"""

from __future__ import annotations

from common import LearningBenchmark

BENCHMARK = LearningBenchmark(
    name="single_turn_math",
    title="SingleTurnMath-v0, GRPO, embedded model",
    options=(),
    arms={"math": (), "random": ("env.reward.name=random",)},
)

if __name__ == "__main__":
    BENCHMARK.main(__doc__ or "")
