"""Evaluate a policy on held-out tasks: ``python -m agents.evaluate run=runs/NAME output_file=result.json``.

``run=runs/NAME`` evaluates the latest checkpoint of a run, ``checkpoint=runs/NAME/checkpoints/step_50`` another one,
and ``run=runs/NAME untrained=true`` the weights that the run started from. ``policy.model=MODEL`` evaluates a model
without a run, and ``policy=served policy.model=NAME engine=openai engine.base_url=URL`` one that a server holds.
``benchmarks=[gsm8k,math500]`` evaluates on public benchmarks, and ``eval_set=`` on other problems. ``env``, ``engine``,
``reward_model``, ``policy`` and ``eval_set`` have the options of ``python -m agents.train``. The command prints avg@k
(accuracy, with its confidence interval), pass@k and maj@k of k samples per problem.
``python -m agents.frontier`` compares search methods and policies at several budgets.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from agents.config.command_line import parse_pairs, report_errors
from agents.config.compose import of_a_run
from agents.config.schema import options
from agents.evaluation.intervals import first_tasks
from reason_envs.core import Environment
from reason_envs.envs.single_turn_math import SingleTurnMath, SingleTurnMathConfig
from reason_envs.errors import OptionError, ReasonEnvsError, RunError
from reason_envs.rewards.code.grade import CodeReward
from reason_envs.sandbox import Sandbox, make_sandbox
from reason_envs.tasks import make as make_tasks
from reason_envs.tasks.base import TaskSet
from reason_envs.tasks.files.evaluation_sets import BENCHMARKS, benchmark_tasks
from reason_envs.validation import Checked, check_choice, limited

if TYPE_CHECKING:
    from agents.evaluation.evaluate_policy import Evaluation
    from agents.training.build import Run

DOMAINS = {"single_turn_math": ("math", "code"), "workflow": ("math", "qa", "code"), "petting_code": ("code",)}
"""Domains of benchmarks that an environment grades; others grade mathematics."""


@dataclass
class EvaluateConfig(Checked):
    """Options of ``python -m agents.evaluate``, given as ``name=value``."""

    run: str | None = None
    """Run folder whose latest checkpoint is evaluated; null: ``checkpoint`` is given instead."""
    checkpoint: str | None = None
    """Checkpoint folder to evaluate, ``runs/NAME/checkpoints/step_N``; null: the latest one of ``run``."""
    untrained: bool = False
    """Whether to evaluate the weights from which the run started, instead of a checkpoint."""
    benchmarks: list[str] | None = None
    """List of public benchmarks: gsm8k, math, math500, aime24, amc23, minerva_math, hotpotqa, drop, humaneval, mbpp;
    null: the held-out problems of the run. They are read from the folder ``REASON_ENVS_DATA``, or else downloaded."""
    tasks: int = limited(1024, at_least=1)
    """Maximum number of held-out tasks."""
    samples: int = limited(4, at_least=1)
    """Number of episodes per task."""
    temperature: float | None = limited(None, at_least=0)
    """Sampling temperature; null: the temperature of the training. 0 is greedy decoding, for which one sample per task
    is enough."""
    seed: int = 0
    """Seed of all random draws."""
    swap_roles: Any = None
    """Roles that act with the weights of another role: ``true`` (each role with those of the next one), or a mapping
    such as ``{coder: tester, tester: coder}``; null: each role acts with its own weights."""
    output_file: str | None = None
    """Path of a JSON file for the metrics and all answers; null: they are only printed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.swap_roles, bool | Mapping | None):
            raise OptionError("swap_roles", self.swap_roles, "must be true or a mapping of roles to roles.")
        for name in self.benchmarks or ():
            check_choice("benchmarks", name, BENCHMARKS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    with report_errors():
        own, overrides = of_a_run(sys.argv[1:] if arguments is None else arguments)
        evaluated, failed = asyncio.run(run_evaluation(parse_pairs(EvaluateConfig, own, __doc__ or ""), overrides))
        if failed:
            raise RunError(f"{', '.join(failed)} could not be evaluated (see above); {len(evaluated)} others were.")


async def run_evaluation(
    config: EvaluateConfig, overrides: Sequence[str] = (), sets: Mapping[str, Any] | None = None
) -> tuple[dict[str, Evaluation], dict[str, str]]:
    """Load and evaluate a policy, print the metrics, and write ``output_file`` if it is given.

    Args:
        config: options of the command.
        overrides: options of a run, ``key=value``. They change the run that is evaluated, or describe one.
        sets: task sets by the name of a benchmark, in place of ``config.benchmarks``.

    Returns:
        The evaluation of each benchmark by name (``""``: the held-out problems), and the errors of those that failed.
    """
    from agents.policies.roles import RolePolicy
    from agents.training.build import load_run

    if config.output_file:
        try:
            Path(config.output_file).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            rule = f"cannot be written: {error}. Choose another path."
            raise OptionError("output_file", config.output_file, rule) from error
    run = load_run(config.run, config.checkpoint, untrained=config.untrained, overrides=overrides)
    if config.swap_roles:
        if not isinstance(run.policy, RolePolicy):
            rule = "needs policy.sharing=lora_per_role or model_per_role; this run has one policy for all roles."
            raise OptionError("swap_roles", config.swap_roles, rule)
        run.policy.swap_roles(None if config.swap_roles is True else config.swap_roles)
    named = {name: benchmark_tasks(name) for name in config.benchmarks or ()} if sets is None else sets
    evaluated: dict[str, Evaluation] = {}
    failed: dict[str, str] = {}
    with closing(run):
        for name, source in (named or {"": None}).items():
            try:
                evaluated[name] = await _evaluate(run, name, source, config)
            except ReasonEnvsError as error:
                if not name:
                    raise
                failed[name] = str(error)
                print(f"{name}: not evaluated: {error}", file=sys.stderr)
            if config.output_file:
                write_result(Path(config.output_file), config, evaluated, failed, overrides)
    return evaluated, failed


async def _evaluate(run: Run, name: str, source: Any, config: EvaluateConfig) -> Evaluation:
    """Evaluate on a benchmark, or on the held-out problems of the run, and print the metrics."""
    from agents.evaluation.evaluate_policy import Evaluation, evaluate_policy, format_result
    from agents.training.prompt_limits import check_prompts

    sandbox = make_sandbox("native")  # it starts with its first program
    environment = run.environment if not name else _environment(run, name, source, sandbox)
    tasks = await check_prompts(run.policy, environment, make_tasks(source, "test") if name else run.held_out())
    print(_subject(config, run, name or tasks.name, tasks), flush=True)
    chosen, sampling = first_tasks(tasks, config.tasks), run.policy.sampling
    if config.temperature is not None:
        sampling = replace(sampling, temperature=config.temperature)
    given: dict[str, Any] = {"samples": config.samples, "seed": config.seed, "sampling": sampling}
    bar = tqdm(total=len(chosen) * config.samples, unit=" episodes", disable=None)
    with bar, closing(sandbox):
        result, played = await evaluate_policy(environment, run.policy, chosen, finished=bar.update, **given)
    print(format_result(result), flush=True)
    return Evaluation(result, chosen, played)


def _environment(run: Run, name: str, source: Any, sandbox: Sandbox) -> Environment:
    """Return the environment that asks for the answers of a benchmark and grades them."""
    config, chosen = run.plan.config.env, BENCHMARKS[name]
    domain, prompt = chosen["domain"], chosen.get("system_prompt")
    if domain not in DOMAINS.get(config.name, ("math",)):
        rule = f"has problems of the domain {domain}, which env={config.name} does not grade."
        raise OptionError("benchmarks", name, rule)
    given = options(config)
    if config.name != "single_turn_math" or not (prompt or given["examples"]):
        return run.environment
    given["tasks"] = source if given["examples"] else run.train_tasks
    if domain == "code":
        given["reward"] = CodeReward(wrong=0.0, no_answer=0.0, sandbox=sandbox)
    given["system_prompt"] = prompt or given["system_prompt"]
    return SingleTurnMath(SingleTurnMathConfig(**{**given, "split": "train"}))


def _subject(config: EvaluateConfig, run: Run, name: str, tasks: TaskSet) -> str:
    """Return the line that says which weights are evaluated on which tasks."""
    policy = run.plan.config.policy
    weights = config.checkpoint or config.run or options(policy).get("model") or policy.name
    before = " before training" if config.untrained else ""
    swapped = f" with swap_roles={config.swap_roles}" if config.swap_roles else ""
    reasons = "".join(f", {number:,} left out {why}" for why, number in tasks.left_out.items() if number)
    count = min(config.tasks, len(tasks))
    return f"{weights}{before}{swapped}: {count:,} problems of {name} x {config.samples}{reasons}"


def write_result(
    path: Path,
    config: EvaluateConfig,
    evaluated: Mapping[str, Evaluation],
    failed: Mapping[str, str],
    overrides: Sequence[str] = (),
) -> None:
    """Write configuration, metrics and answers as JSON. The folder of the file is created.

    Evaluations and errors are by the name of the benchmark. An evaluation with an empty name is not below
    ``benchmarks``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sets = {name: _record(evaluation) for name, evaluation in evaluated.items()}
    found = sets.get("", {"benchmarks": {**sets, **{name: {"error": error} for name, error in failed.items()}}})
    path.write_text(json.dumps({"config": asdict(config), "overrides": list(overrides), **found}, indent=1) + "\n")


def _record(evaluation: Evaluation) -> dict[str, Any]:
    """Return metrics and answers as plain data."""
    by_id = {task.id: task for task in evaluation.tasks}
    answers = [
        {
            "task": t.task_id,
            "question": by_id[t.task_id].question,
            "answer": by_id[t.task_id].answer,
            "responses": [d.choice.text for d in t.path],
            **({"solution": t.facts["solution"]} if "solution" in t.facts else {}),
            "extracted": t.facts.get("extracted"),
            "correct": bool(t.metrics.get("correct", 0.0)),
            **({"failure": t.failure} if t.failure else {}),
        }
        for t in evaluation.trajectories
    ]
    return {"result": asdict(evaluation.result), "answers": answers}


if __name__ == "__main__":
    main()
