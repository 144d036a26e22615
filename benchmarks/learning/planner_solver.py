"""Does a planner learn to write better guidelines? Three seeds, held-out problems, and a control paid by coin flips.

One line does everything, and continues where it was interrupted:

    python benchmarks/learning/planner_solver.py

Each run trains with ``python -m agents.train env=planner_solver algo=grpo`` and its defaults. What is measured, in both
arms, is the default reward: the solver is right, and the guideline has not given the answer away.
"""

from __future__ import annotations

from common import LearningBenchmark

from agents.trajectory import Trajectory


def honestly_right(trajectory: Trajectory) -> float:
    """Whether the solver was right by a guideline that gives nothing away."""
    return trajectory.metrics["correct"] * (1 - trajectory.metrics["leak"])


BENCHMARK = LearningBenchmark(
    name="planner_solver",
    title="PlannerSolver-v0, GRPO, embedded models",
    options=("env=planner_solver", "algo=grpo"),
    arms={"math": (), "random": ("env.reward.name=random",)},
    score=honestly_right,
    score_name="right answers of the solver",
    problems=512,
)

if __name__ == "__main__":
    BENCHMARK.main(__doc__ or "")
