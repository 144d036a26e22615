"""Answers to held-out problems, graded after they were submitted, and their figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from agents.evaluation.intervals import share_interval
from agents.search.answer import Answer
from agents.search.solvers import Solver
from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.envs.reason_tree.environment import ReasonTree
from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.base import Task

COSTS = ("generated_tokens", "reward_model_tokens", "generator_calls", "reward_model_calls", "nodes")


@dataclass(frozen=True)
class Solved:
    """One problem's submitted answer and its grade."""

    task: str
    """The problem's id."""
    correct: bool
    """The grader's verdict on the response."""
    answer: Answer
    """What was submitted, and what it cost."""


@dataclass(frozen=True)
class MethodResult:
    """One method at one budget over the same problems as the others."""

    method: str
    """Its family: a curve of the frontier."""
    label: str
    """Its options."""
    problems: int
    """Number of problems."""
    accuracy: float
    """Share of right answers."""
    accuracy_low: float
    """Lower end of the 95 % interval (bootstrap over problems)."""
    accuracy_high: float
    """Upper end of it."""
    frac_no_answer: float
    """Share of problems without a submitted answer."""
    generated_tokens: float
    """Mean of all generated tokens of a problem."""
    reward_model_tokens: float
    """Mean of the tokens that the reward model reads for a problem."""
    generator_calls: float
    """Mean samples asked for."""
    reward_model_calls: float
    """Mean paths or solutions scored."""
    nodes: float
    """Mean size of the tree."""
    seconds: float
    """For all problems together."""


async def solve_all(
    environment: ReasonTree, solver: Solver, tasks: Sequence[Task], seed: int
) -> tuple[list[Solved], float]:
    """Answer every problem at the same time, then grade; return the answers and the seconds before grading."""
    started = perf_counter()
    answers = await gather(*(solver.solve(environment, task, seed) for task in tasks))
    seconds = perf_counter() - started
    return await grade(environment, tasks, answers, seed), seconds


async def grade(environment: ReasonTree, tasks: Sequence[Task], answers: Sequence[Answer], seed: int) -> list[Solved]:
    """Grade submitted answers with the environment's reward.

    Raises:
        ReasonEnvsError: the reward does not tell whether a response is correct.
    """
    pairs = list(zip(tasks, answers, strict=True))
    verdicts = await gather(
        *(environment.reward(answer.response, task, derive_seed(seed, "grade", task.id)) for task, answer in pairs)
    )
    for task, verdict in zip(tasks, verdicts, strict=True):
        if "correct" not in verdict.info:
            raise ReasonEnvsError(
                f"The reward does not say whether the answer to {task.id!r} is correct, so there is no accuracy: let "
                "the function return (value, {'correct': bool})."
            )
    return [
        Solved(task.id, bool(verdict.info["correct"]), answer)
        for (task, answer), verdict in zip(pairs, verdicts, strict=True)
    ]


def summarise(method: str, label: str, solved: Sequence[Solved], seconds: float, seed: int) -> MethodResult:
    """Return the figures of one method."""
    correct = np.array([float(s.correct) for s in solved])
    low, high = share_interval(correct, seed)
    return MethodResult(
        method=method,
        label=label,
        problems=len(solved),
        accuracy=float(correct.mean()),
        accuracy_low=low,
        accuracy_high=high,
        frac_no_answer=float(np.mean([s.answer.answer is None for s in solved])),
        seconds=seconds,
        **{cost: float(np.mean([getattr(s.answer, cost) for s in solved])) for cost in COSTS},
    )


def table(results: Iterable[MethodResult]) -> str:
    """Return the figures as a table in Markdown."""
    lines = [
        "| method | accuracy (95 % interval) | no answer | generated tokens | reward-model tokens "
        "| samples | scored | seconds for all |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        lines.append(
            f"| {r.label} | {r.accuracy:.1%} ({r.accuracy_low:.1%} to {r.accuracy_high:.1%}) | {r.frac_no_answer:.1%} "
            f"| {r.generated_tokens:.1f} | {r.reward_model_tokens:.1f} | {r.generator_calls:.1f} "
            f"| {r.reward_model_calls:.1f} | {r.seconds:.1f} |"
        )
    return "\n".join(lines)


def record(result: MethodResult, solved: Sequence[Solved]) -> dict[str, Any]:
    """Return figures and, problem by problem, every answer and its costs, as JSON holds them."""
    columns = ("answer", "response", "value", "candidates", *COSTS)
    return {
        "result": asdict(result),
        "problems": {
            "task": [s.task for s in solved],
            "correct": [s.correct for s in solved],
            **{column: [getattr(s.answer, column) for s in solved] for column in columns},
        },
    }


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content) + "\n", encoding="utf-8")
    partial.replace(path)
