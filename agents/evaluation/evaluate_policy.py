"""Play held-out tasks with a policy and summarise: accuracy with a bootstrap interval, tokens and lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from agents.evaluation.intervals import share_interval
from agents.policies.base import Policy
from agents.rollout.episodes import grouped, play
from agents.trajectory import Trajectory
from reason_envs.core import Environment, derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import Sampling
from reason_envs.tasks.base import Task


@dataclass(frozen=True)
class EvaluationResult:
    """Figures over held-out tasks."""

    tasks: int
    """Number of tasks."""
    samples: int
    """Samples a task."""
    accuracy: float
    """Mean over tasks of the share of correct samples."""
    accuracy_low: float
    """Lower end of the 95 % interval (bootstrap over tasks)."""
    accuracy_high: float
    """Upper end of it."""
    pass_at_n: float
    """Share of tasks with at least one correct sample among ``samples``."""
    reward: float
    """Mean return of an episode, all agents' together."""
    episode_length: float
    """Mean turns of an episode: as the environment counts them, else decisions of all agents together."""
    frac_no_answer: float
    """Share of responses without an answer in the right place."""
    mean_tokens: float
    """Mean tokens generated for an episode, by the policy and inside the environment."""
    mean_reward_model_tokens: float
    """Mean tokens that a step reward model read for an episode."""

    def metrics(self, prefix: str = "eval/") -> dict[str, float]:
        """Return the figures under the names that runs log."""
        return {f"{prefix}{name}": float(value) for name, value in asdict(self).items()}


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
    """Play every task ``samples`` times and summarise.

    Args:
        environment: the prototype environment.
        policy: who answers.
        tasks: held-out problems.
        samples: episodes a task.
        seed: keys the draws; equal seeds give equal draws to different weights.
        sampling: how tokens are drawn.
        finished: called at the end of each episode.
    """
    episodes = grouped(tasks, samples, derive_seed(seed, "evaluate"))
    trajectories = await play(environment, policy, episodes, finished, sampling=sampling)
    return summarise(trajectories, samples, seed), trajectories


def summarise(trajectories: Sequence[Trajectory], samples: int, seed: int) -> EvaluationResult:
    """Summarise episodes that lie ``samples`` in a row for each task.

    Raises:
        ReasonEnvsError: an episode does not tell whether it was correct.
    """
    for trajectory in trajectories:
        if "correct" not in trajectory.metrics:
            raise ReasonEnvsError(
                f"The episode of task {trajectory.task_id!r} does not say whether it was correct, so there is no "
                "accuracy: let a reward function return (value, {'correct': bool}), an environment of yours put "
                "'correct' into its last info, or set eval_every=0."
            )
    correct = np.array([t.metrics["correct"] for t in trajectories]).reshape(-1, samples)
    low, high = share_interval(correct.mean(axis=1), seed)
    return EvaluationResult(
        tasks=len(correct),
        samples=samples,
        accuracy=float(correct.mean()),
        accuracy_low=low,
        accuracy_high=high,
        pass_at_n=float(correct.max(axis=1).mean()),
        reward=float(np.mean([t.total_reward for t in trajectories])),
        episode_length=float(np.mean([t.length for t in trajectories])),
        frac_no_answer=float(np.mean([t.metrics.get("no_answer", 0.0) for t in trajectories])),
        mean_tokens=float(np.mean([t.generated_tokens for t in trajectories])),
        mean_reward_model_tokens=float(np.mean([t.metrics.get("reward_model_tokens", 0.0) for t in trajectories])),
    )


def format_result(result: EvaluationResult) -> str:
    """Return the figures as a small table."""
    return "\n".join(
        [
            f"accuracy        {result.accuracy:7.1%}   [{result.accuracy_low:.1%}, {result.accuracy_high:.1%}] 95 %",
            f"pass@{result.samples:<10} {result.pass_at_n:7.1%}",
            f"no answer       {result.frac_no_answer:7.1%}",
            f"reward          {result.reward:7.3f}",
            f"turns/episode   {result.episode_length:7.2f}",
            f"tokens/episode  {result.mean_tokens:7.1f}",
            f"tasks x samples {result.tasks} x {result.samples}",
        ]
    )
