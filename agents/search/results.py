"""Grades of submitted answers to held-out problems and the metrics of a method."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np

from agents.evaluation.intervals import share_interval
from agents.search.answer import COSTS, Answer
from agents.search.plans import Solver
from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.envs.reason_tree.environment import ReasonTree
from reason_envs.errors import ReasonEnvsError
from reason_envs.resources import read_text
from reason_envs.tasks.base import Task


@dataclass(frozen=True)
class Solved:
    """Submitted answer to a problem, and its grade."""

    task: str
    """Id of the problem."""
    correct: bool
    """Whether the grader accepts the response."""
    answer: Answer
    """Submitted answer and its cost."""


@dataclass(frozen=True)
class MethodResult:
    """Metrics of one method at one budget. All methods solve the same problems."""

    method: str
    """Name and options without the budget. Results with the same value are one curve of the frontier."""
    label: str
    """Name and all options of the method."""
    problems: int
    """Number of problems."""
    accuracy: float
    """Share of correct answers."""
    accuracy_low: float
    """Lower end of the 95 % interval of the accuracy (bootstrap over problems)."""
    accuracy_high: float
    """Upper end of the 95 % interval of the accuracy."""
    frac_no_answer: float
    """Share of problems without a submitted answer."""
    generated_tokens: float
    """Mean number of generated tokens per problem."""
    reward_model_tokens: float
    """Mean number of tokens that the reward model reads per problem."""
    generator_calls: float
    """Mean number of samples from the generator per problem."""
    reward_model_calls: float
    """Mean number of scored paths or solutions per problem."""
    nodes: float
    """Mean number of nodes per tree."""
    seconds: float
    """Seconds for all problems together, without grading."""


async def solve_all(
    environment: ReasonTree, solver: Solver, tasks: Sequence[Task], seed: int
) -> tuple[list[Solved], float]:
    """Solve all problems together, then grade the answers; return them, and the seconds before grading."""
    started = perf_counter()
    answers = await gather(*(solver.solve(environment, task, seed) for task in tasks))
    seconds = perf_counter() - started
    return await grade(environment, tasks, answers, seed), seconds


async def grade(environment: ReasonTree, tasks: Sequence[Task], answers: Sequence[Answer], seed: int) -> list[Solved]:
    """Grade submitted answers with the reward function of the environment.

    Raises:
        ReasonEnvsError: the reward function does not report whether a response is correct.
    """
    pairs = list(zip(tasks, answers, strict=True))
    verdicts = await gather(
        *(environment.reward(answer.response, task, derive_seed(seed, "grade", task.id)) for task, answer in pairs)
    )
    for task, verdict in zip(tasks, verdicts, strict=True):
        if "correct" not in verdict.info:
            raise ReasonEnvsError(
                f"The reward function does not report whether the answer to {task.id!r} is correct, so there is no "
                "accuracy: return (value, {'correct': bool}) from the function."
            )
    return [
        Solved(task.id, bool(verdict.info["correct"]), answer)
        for (task, answer), verdict in zip(pairs, verdicts, strict=True)
    ]


def summarise(method: str, label: str, solved: Sequence[Solved], seconds: float, seed: int) -> MethodResult:
    """Return the metrics of one method."""
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
    """Write the metrics as a table in Markdown."""
    *heading, row = read_text(__file__, "results_table.md").splitlines()
    return "\n".join([*heading, *(row.format(**asdict(result)) for result in results)])


def record(result: MethodResult, solved: Sequence[Solved]) -> dict[str, Any]:
    """Return the metrics of a method, and answer and cost of each problem, as JSON types."""
    columns = ("answer", "response", "value", "candidates", *COSTS)
    return {
        "result": asdict(result),
        "problems": {
            "task": [s.task for s in solved],
            "correct": [s.correct for s in solved],
            **{column: [getattr(s.answer, column) for s in solved] for column in columns},
        },
    }
