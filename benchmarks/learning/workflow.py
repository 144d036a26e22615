"""Does GRPO learn to write workflows? Three seeds, held-out problems, and a control whose rewards are coin flips.

One line does everything, and continues where it was interrupted:

    python benchmarks/learning/workflow.py

Each run trains with ``python -m agents.train env=workflow algo=grpo`` and its defaults. What is measured, in both arms,
is what workflows earn by the five tiers, caps included, on problems of the test split (mathematics, questions and
programming), which neither training nor the embedded model's pre-training saw.
"""

from __future__ import annotations

from common import LearningBenchmark

from agents.trajectory import Trajectory


def earned(trajectory: Trajectory) -> float:
    """What a workflow earns by the tiers, whatever it was paid."""
    return trajectory.metrics["earned"]


BENCHMARK = LearningBenchmark(
    name="workflow",
    title="WorkflowExecution-v0, GRPO, embedded models",
    options=("env=workflow", "algo=grpo"),
    arms={"tiers": (), "random": ("env.reward=random",)},
    score=earned,
    score_name="right answers of the workflows",
    problems=512,
    samples=2,
)

if __name__ == "__main__":
    BENCHMARK.main(__doc__ or "")
