"""Does GRPO learn to write workflows? Three seeds, held-out problems, and a control whose rewards are coin flips.

This command does everything. It continues after an interruption:

    python benchmarks/learning/workflow.py

Each run trains with ``python -m agents.train env=workflow algo=grpo`` and its defaults. The score of both arms is the
reward by the five tiers, including caps, on problems of the test split (mathematics, questions and programming).
Neither the training nor the pre-training of the embedded model used these problems.
"""

from __future__ import annotations

from common import LearningBenchmark

from agents.trajectory import Trajectory


def earned(trajectory: Trajectory) -> float:
    """Return the reward of a workflow by the tiers, independent of the rewards in training."""
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
