"""Evaluate a policy on held-out tasks: accuracy with a confidence interval, reward, tokens and lengths."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from agents.evaluation.intervals import share_interval
from agents.evaluation.vote import vote
from agents.policies.base import Policy
from agents.rollout.episodes import grouped, numbers, play
from agents.trajectory import Trajectory
from reason_envs.core import Environment, derive_seed
from reason_envs.errors import ReasonEnvsError, RewardError
from reason_envs.llm.engine import Sampling
from reason_envs.resources import read_table
from reason_envs.tasks.base import Task, TaskSet


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics over held-out tasks."""

    tasks: int
    """Number of tasks."""
    samples: int
    """Number of episodes per task."""
    accuracy: float
    """Share of correct episodes (avg@k). Episodes that an engine failed are left out here and below."""
    accuracy_low: float
    """Lower end of the 95 % confidence interval of the accuracy (bootstrap over tasks)."""
    accuracy_high: float
    """Upper end of the 95 % confidence interval of the accuracy."""
    pass_at_n: float
    """Share of tasks with at least one correct episode among ``samples``."""
    maj_at_n: float | None
    """Share of tasks whose most frequent answer among ``samples`` is correct. ``None``: the environment does not give
    answers as ``info["extracted"]``."""
    reward: float
    """Mean return of an episode, summed over all agents."""
    episode_length: float
    """Mean number of turns per episode, as the environment counts them, or else the decisions of all agents."""
    frac_no_answer: float
    """Share of episodes without an answer in the expected format."""
    mean_tokens: float
    """Mean number of tokens generated per episode, by the policy and inside the environment."""
    mean_reward_model_tokens: float
    """Mean number of tokens per episode that the step reward model read."""
    engine_failures: float
    """Share of episodes that an engine or sandbox failed. They are not the policy's fault."""

    def metrics(self, prefix: str = "eval/") -> dict[str, float]:
        """Return the metrics by the names that runs log, such as ``eval/accuracy``."""
        return {f"{prefix}{name}": float(value) for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation, and what it was computed from."""

    result: EvaluationResult
    """Metrics over all problems."""
    tasks: list[Task]
    """Problems that were evaluated."""
    trajectories: list[Trajectory]
    """Episodes, ``result.samples`` in a row for each problem."""


async def evaluate_policy(
    environment: Environment,
    policy: Policy,
    tasks: Sequence[Task],
    *,
    samples: int,
    seed: int,
    sampling: Sampling,
    finished: Callable[[], Any] = lambda: None,
) -> tuple[EvaluationResult, list[Trajectory]]:
    """Play ``samples`` episodes of every task and summarise them. Every episode plays on a fork of the environment.

    Equal seeds give different weights the same random numbers. ``finished`` is called at the end of each episode.

    Returns:
        The metrics, and the episodes: ``samples`` in a row for each task.
    """
    episodes = grouped(tasks, samples, derive_seed(seed, "evaluate"))
    trajectories = await play(environment, policy, episodes, finished, sampling=sampling)
    return summarise(trajectories, samples, seed), trajectories


def summarise(trajectories: Sequence[Trajectory], samples: int, seed: int) -> EvaluationResult:
    """Summarise episodes, ``samples`` in a row for each task. The seed is that of the bootstrap.

    Raises:
        ReasonEnvsError: an episode does not report whether it was correct.
    """
    for trajectory in trajectories:
        if "correct" not in trajectory.metrics:
            raise ReasonEnvsError(
                f"The episode of task {trajectory.task_id!r} does not report whether it was correct, so it has no "
                "accuracy: return (value, {'correct': bool}) from the reward function, or put 'correct' into the last "
                "info of the environment, or set eval_every=0."
            )
    rows = [[t for t in trajectories[i : i + samples] if not t.failure] for i in range(0, len(trajectories), samples)]
    rows = [row for row in rows if row]
    correct = [np.array([t.metrics["correct"] for t in row]) for row in rows]
    low, high = share_interval(np.array([row.mean() for row in correct]), seed)
    played, trajectories = len(trajectories), [t for row in rows for t in row]
    return EvaluationResult(
        tasks=len(correct),
        samples=samples,
        accuracy=float(np.concatenate(correct).mean()),
        accuracy_low=low,
        accuracy_high=high,
        pass_at_n=float(np.mean([row.max() for row in correct])),
        maj_at_n=_majority_share(rows),
        reward=float(np.mean([t.total_reward for t in trajectories])),
        episode_length=float(np.mean([t.length for t in trajectories])),
        frac_no_answer=float(np.mean([t.metrics.get("no_answer", 0.0) for t in trajectories])),
        mean_tokens=float(np.mean([t.generated_tokens for t in trajectories])),
        mean_reward_model_tokens=float(np.mean([t.metrics.get("reward_model_tokens", 0.0) for t in trajectories])),
        engine_failures=1 - len(trajectories) / played,
    )


async def check_reports(environment: Environment, tasks: TaskSet | None) -> None:
    """Check, before a policy is loaded, that the reward of an environment reports whether a response is correct."""
    if tasks is None or environment.graded_by is None:
        return
    task = tasks.ordered(0, seed=0)
    with suppress(RewardError):  # training counts it
        graded = await environment.graded_by(task.answer, task, 0)
        summarise([Trajectory(task.id, "", [], True, False, numbers(graded.info))], samples=1, seed=0)


def _majority_share(rows: Sequence[Sequence[Trajectory]]) -> float | None:
    """Return the share of tasks whose most frequent answer is correct."""
    answered = [[t for t in row if "extracted" in t.facts] for row in rows]
    if not any(answered):
        return None
    chosen = [row[vote([t.facts["extracted"] for t in row])] for row in answered if row]
    return sum(trajectory.metrics["correct"] for trajectory in chosen) / len(rows)


def format_result(result: EvaluationResult) -> str:
    """Return the metrics as a small table."""
    values = {**asdict(result), "engine_failures": result.engine_failures or None}
    lines = read_table(__file__, "result.yaml")
    return "\n".join(text.format(**values) for metric, text in lines if values[metric] is not None)
