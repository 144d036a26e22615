"""Held-out evaluation: accuracy with a bootstrap interval, as a function and as a command.

``python -m agents.evaluate run=runs/NAME output_file=result.json`` evaluates the latest checkpoint of a run,
``checkpoint=runs/NAME/checkpoints/step_50`` that one, and ``run=runs/NAME untrained=true`` what the run started from.
``method=...`` compares searches, and policies that search, at several budgets: see ``method=mcts --help``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from agents.held_out import first_tasks, share_interval
from agents.policies.base import Policy, TrainablePolicy
from agents.policies.roles import RolePolicy
from agents.rollout import Episode, grouped, play
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
    episodes: list[Episode] = grouped(tasks, samples, derive_seed(seed, "evaluate"))
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


@dataclass
class EvaluateConfig:
    """Options of ``python -m agents.evaluate``, given as ``name=value``."""

    run: str | None = None
    """Run folder: its configuration and its latest checkpoint."""
    checkpoint: str | None = None
    """A checkpoint folder inside a run folder, ``runs/NAME/checkpoints/step_N``, instead of ``run``."""
    untrained: bool = False
    """Evaluate the weights that the run started from."""
    tasks: int = 1024
    """Held-out tasks."""
    samples: int = 4
    """Samples a task."""
    temperature: float = 1.0
    """Sampling temperature; 0 is greedy (then one sample is enough)."""
    seed: int = 0
    """Keys the draws."""
    swap_roles: Any = None
    """Roles that act with others' weights: ``true`` (each with the next one's), or a mapping such as
    ``{coder: tester, tester: coder}``."""
    output_file: str | None = None
    """Where to write the figures and every answer as JSON."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    from transformers.utils import logging as transformers_logging

    from agents.command import parse_pairs, report_errors
    from agents.search.command import main as evaluate_methods

    transformers_logging.disable_progress_bar()
    given = sys.argv[1:] if arguments is None else arguments
    with report_errors():
        if any(argument.startswith("method=") for argument in given):
            evaluate_methods(given)
            return
        config = parse_pairs(EvaluateConfig, given, __doc__ or "")
        result = asyncio.run(run_evaluation(config))
        print(format_result(result))


async def run_evaluation(config: EvaluateConfig) -> EvaluationResult:
    """Load what the configuration names, evaluate it, and write ``output_file``."""
    from agents.runs import load_run

    _validate(config)
    if config.output_file:
        _make_folder(Path(config.output_file))
    run = load_run(config.run, config.checkpoint, untrained=config.untrained)
    if config.swap_roles:
        _swap(run.policy, config.swap_roles)
    sampling = Sampling(run.policy.sampling.max_tokens, config.temperature, stop=run.policy.sampling.stop)
    assert run.test_tasks is not None  # load_run always evaluates
    tasks = first_tasks(run.test_tasks, config.tasks)
    print(_subject(config, run.test_tasks.name, len(tasks)))
    with tqdm(total=len(tasks) * config.samples, unit=" episodes", disable=None) as bar:
        result, trajectories = await evaluate_policy(
            run.environment,
            run.policy,
            tasks,
            samples=config.samples,
            seed=config.seed,
            sampling=sampling,
            finished=bar.update,
        )
    if config.output_file:
        write_result(Path(config.output_file), config, result, tasks, trajectories)
    return result


def _subject(config: EvaluateConfig, tasks: str, count: int) -> str:
    """Say what is evaluated on what."""
    weights = " before its training" if config.untrained else ""
    swapped = f" with swap_roles={config.swap_roles}" if config.swap_roles else ""
    return f"{config.checkpoint or config.run}{weights}{swapped}: {count:,} problems of {tasks} x {config.samples}"


def _swap(policy: TrainablePolicy, roles: Any) -> None:
    if not isinstance(policy, RolePolicy):
        raise ReasonEnvsError(
            f"swap_roles={roles}: this run has one policy for all roles, so there is nothing to swap. It is for runs "
            "with policy.sharing=lora_per_role or model_per_role."
        )
    if roles is not True and not isinstance(roles, Mapping):
        raise ReasonEnvsError(f"swap_roles={roles!r} must be true or a mapping of roles to roles.")
    policy.swap(None if roles is True else roles)


def _validate(config: EvaluateConfig) -> None:
    for name, value in (("tasks", config.tasks), ("samples", config.samples)):
        if value < 1:
            raise ReasonEnvsError(f"{name}={value} must be at least 1.")
    if config.temperature < 0:
        raise ReasonEnvsError(f"temperature={config.temperature} must not be negative (0 is greedy).")


def write_result(
    path: Path, config: EvaluateConfig, result: EvaluationResult, tasks: list[Task], trajectories: list[Trajectory]
) -> None:
    """Write configuration, figures and answers as JSON."""
    by_id = {task.id: task for task in tasks}
    answers = [
        {
            "task": t.task_id,
            "question": by_id[t.task_id].question,
            "answer": by_id[t.task_id].answer,
            "responses": [d.choice.text for d in t.path],
            "correct": bool(t.metrics.get("correct", 0.0)),
        }
        for t in trajectories
    ]
    _make_folder(path)
    path.write_text(
        json.dumps({"config": asdict(config), "result": asdict(result), "answers": answers}, indent=1) + "\n"
    )


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReasonEnvsError(f"output_file={path} cannot be written: {error}. Choose another place.") from error


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


if __name__ == "__main__":
    main()
