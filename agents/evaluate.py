"""Evaluate a policy on held-out tasks: ``python -m agents.evaluate run=runs/NAME output_file=result.json``.

``run=runs/NAME`` evaluates the latest checkpoint of a run, ``checkpoint=runs/NAME/checkpoints/step_50`` another one,
and ``run=runs/NAME untrained=true`` the weights that the run started from. The command prints the accuracy with its
confidence interval. ``python -m agents.frontier`` compares search methods and policies at several budgets.
"""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from agents.evaluation.evaluate_policy import EvaluationResult, evaluate_policy, format_result
from agents.evaluation.intervals import first_tasks
from agents.policies.base import TrainablePolicy
from agents.policies.roles import RolePolicy
from agents.trajectory import Trajectory
from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.llm.engine import Sampling
from reason_envs.tasks.base import Task
from reason_envs.validation import at_least


@dataclass
class EvaluateConfig:
    """Options of ``python -m agents.evaluate``, given as ``name=value``."""

    run: str | None = None
    """Run folder whose latest checkpoint is evaluated; null: ``checkpoint`` is given instead."""
    checkpoint: str | None = None
    """Checkpoint folder to evaluate, ``runs/NAME/checkpoints/step_N``; null: the latest one of ``run``."""
    untrained: bool = False
    """Whether to evaluate the weights from which the run started, instead of a checkpoint."""
    tasks: int = 1024
    """Maximum number of held-out tasks."""
    samples: int = 4
    """Number of episodes per task."""
    temperature: float = 1.0
    """Sampling temperature. 0 is greedy decoding, for which one sample per task is enough."""
    seed: int = 0
    """Seed of all random draws."""
    swap_roles: Any = None
    """Roles that act with the weights of another role: ``true`` (each role with those of the next one), or a mapping
    such as ``{coder: tester, tester: coder}``; null: each role acts with its own weights."""
    output_file: str | None = None
    """Path of a JSON file for the metrics and all answers; null: they are only printed."""

    def __post_init__(self) -> None:
        at_least(self, tasks=1, samples=1, temperature=0)
        if not isinstance(self.swap_roles, bool | Mapping | None):
            raise OptionError("swap_roles", self.swap_roles, "must be true or a mapping of roles to roles.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    from transformers.utils import logging as transformers_logging

    from agents.config.command_line import parse_pairs, report_errors

    transformers_logging.disable_progress_bar()
    given = sys.argv[1:] if arguments is None else arguments
    with report_errors():
        if any(argument.startswith("method=") for argument in given):
            raise ReasonEnvsError("method= is an option of python -m agents.frontier: run that command instead.")
        config = parse_pairs(EvaluateConfig, given, __doc__ or "")
        result = asyncio.run(run_evaluation(config))
        print(format_result(result))


async def run_evaluation(config: EvaluateConfig) -> EvaluationResult:
    """Load and evaluate a policy, and write ``output_file`` if it is given.

    Raises:
        ReasonEnvsError: an option is invalid, or the run cannot be loaded.
    """
    from agents.training.build import load_run

    if config.output_file:
        _make_folder(Path(config.output_file))
    run = load_run(config.run, config.checkpoint, untrained=config.untrained)
    if config.swap_roles:
        _swap(run.policy, config.swap_roles)
    sampling = Sampling(run.policy.sampling.max_tokens, config.temperature, stop=run.policy.sampling.stop)
    tasks = first_tasks(run.held_out(), config.tasks)
    print(_subject(config, run.held_out().name, len(tasks)))
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
    """Return the line that says which weights are evaluated on which tasks."""
    weights = " before training" if config.untrained else ""
    swapped = f" with swap_roles={config.swap_roles}" if config.swap_roles else ""
    return f"{config.checkpoint or config.run}{weights}{swapped}: {count:,} problems of {tasks} x {config.samples}"


def _swap(policy: TrainablePolicy, roles: Any) -> None:
    if not isinstance(policy, RolePolicy):
        raise OptionError(
            "swap_roles",
            roles,
            "needs a run with policy.sharing=lora_per_role or model_per_role; this run has one policy for all roles.",
        )
    policy.swap_roles(None if roles is True else roles)


def write_result(
    path: Path, config: EvaluateConfig, result: EvaluationResult, tasks: list[Task], trajectories: list[Trajectory]
) -> None:
    """Write configuration, metrics and answers as JSON.

    Args:
        path: the file; its folder is created.
        config: options of the evaluation.
        result: metrics.
        tasks: the tasks that were evaluated.
        trajectories: their episodes.
    """
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
        raise OptionError("output_file", str(path), f"cannot be written: {error}. Choose another path.") from error


if __name__ == "__main__":
    main()
