"""Does a planner learn to write better guidelines? Three seeds, held-out problems, and a control with random rewards.

This command does everything. It continues after an interruption:

    python benchmarks/learning/planner_solver.py

Each run trains with ``python -m agents.train env=planner_solver algo=grpo`` and its defaults. The score of both arms is
the default reward: the solver is correct, and the guideline does not reveal the answer.
"""

from __future__ import annotations

from common import LearningBenchmark

from agents.trajectory import Trajectory


def correct_without_leak(trajectory: Trajectory) -> float:
    """Return 1 if the solver was correct with a guideline that does not reveal the answer, otherwise 0."""
    return trajectory.metrics["correct"] * (1 - trajectory.metrics["leak"])


BENCHMARK = LearningBenchmark(
    name="planner_solver",
    title="PlannerSolver-v0, GRPO, embedded models",
    options=("env=planner_solver", "algo=grpo"),
    arms={"math": (), "random": ("env.reward.name=random",)},
    score=correct_without_leak,
    score_name="right answers of the solver",
    problems=512,
)

if __name__ == "__main__":
    BENCHMARK.main(__doc__ or "")
