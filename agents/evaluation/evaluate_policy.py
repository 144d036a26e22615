"""Evaluate a policy on held-out tasks: accuracy with a confidence interval, reward, tokens and lengths."""

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
    """Metrics over held-out tasks."""

    tasks: int
    """Number of tasks."""
    samples: int
    """Number of episodes per task."""
    accuracy: float
    """Mean over tasks of the share of correct episodes."""
    accuracy_low: float
    """Lower end of the 95 % confidence interval of the accuracy (bootstrap over tasks)."""
    accuracy_high: float
    """Upper end of the 95 % confidence interval of the accuracy."""
    pass_at_n: float
    """Share of tasks with at least one correct episode among ``samples``."""
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

    def metrics(self, prefix: str = "eval/") -> dict[str, float]:
        """Return the metrics by the names that runs log, such as ``eval/accuracy``."""
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
    """Play ``samples`` episodes of every task and summarise them.

    Args:
        environment: prototype environment; every episode plays on a fork of it.
        policy: policy to evaluate.
        tasks: held-out problems.
        samples: number of episodes per task.
        seed: seed of all random draws. Equal seeds give different weights the same random numbers.
        sampling: sampling parameters, such as the temperature.
        finished: function to call at the end of each episode.

    Returns:
        The metrics, and the episodes: ``samples`` in a row for each task.
    """
    episodes = grouped(tasks, samples, derive_seed(seed, "evaluate"))
    trajectories = await play(environment, policy, episodes, finished, sampling=sampling)
    return summarise(trajectories, samples, seed), trajectories


def summarise(trajectories: Sequence[Trajectory], samples: int, seed: int) -> EvaluationResult:
    """Summarise episodes.

    Args:
        trajectories: episodes, ``samples`` in a row for each task.
        samples: number of episodes per task.
        seed: seed of the bootstrap.

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
    """Return the metrics as a small table."""
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
