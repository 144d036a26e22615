"""Does PPO with a value head teach a language model sums? Three seeds, held-out problems, and a random control.

This command does everything. It continues after an interruption:

    python benchmarks/learning/language_ppo.py

Each run trains with ``python -m agents.train env=single_turn_math algo=ppo policy=language`` and its defaults.
"""

from __future__ import annotations

from common import LearningBenchmark

BENCHMARK = LearningBenchmark(
    name="language_ppo",
    title="SingleTurnMath-v0, PPO with a value head, embedded model",
    options=("env=single_turn_math", "algo=ppo", "policy=language", "eval_every=0"),
    arms={"math": (), "random": ("env.reward.name=random",)},
    problems=512,
    samples=2,
)

if __name__ == "__main__":
    BENCHMARK.main(__doc__ or "")
