r"""Re-rank real solutions: four language models' solutions of each GSM8K test problem, recorded as one tree.

    python benchmarks/search/gsm8k_record.py --data FOLDER

The file ``FOLDER/gsm8k/example_model_solutions.jsonl`` is published at https://github.com/openai/grade-school-math.
This benchmark generates no text. It records the four solutions of a problem, in an order drawn per problem, as if a
generator had sampled their lines as steps below one root. Calculator annotations are removed, and the answer in the
last line is put into a box. An agent can only choose among the solutions. It cannot return to a solution that it left.

A hash divides the problems: two fifths train a solution-level scorer (the embedded model with a new head, with the
grade of the whole solution as the label of every step), two fifths train the policy, and one fifth is held out. The
report gives, on the held-out problems and with bootstrap intervals, the accuracy of a random solution, of the majority
answer, of the best solution by the scorer, of the trained graph policy, and the ceiling (any of the four is correct).
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gsm8k_data import MODELS, option_parser, read_rows

from agents.config.command_line import report_errors
from agents.config.compose import compose_config
from agents.evaluation.intervals import bootstrap_interval
from agents.policies.walks import RandomLegal
from agents.reward_model.fine_tuning import FineTuningConfig, fine_tune
from agents.reward_model.labels import LabelledSolution
from agents.search.plans import Walking
from agents.search.results import solve_all
from agents.train import train
from agents.training.build import load_run
from reason_envs import make_environment
from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.envs.reason_tree.environment import ReasonTree
from reason_envs.llm.engine import Engine, Generation, GenerationRequest, Sampling
from reason_envs.llm.engines.recorded.engine import RecordedEngine
from reason_envs.llm.stop_strings import StopStrings
from reason_envs.reward_models import StepScoreRequest
from reason_envs.reward_models.recorded import RecordedStepRewardModel
from reason_envs.rewards import extract_answer, grade_math_batch
from reason_envs.tasks import Task, TaskSet, make
from reason_envs.tasks.text import strip_calculations

ANSWER = "A: "
"""Start of the last line of a solution."""
PARTS = ("scorer", "scorer", "train", "train", "test")
"""Use of each fifth of the problems."""
TREE: dict[str, Any] = {
    "seed_scope": "task",
    "max_depth": 30,
    "max_nodes": 128,
    "max_branch": 4,
    "max_step_tokens": 1600,
}
PAY: dict[str, Any] = {
    **{"aggregation": "last", "value_weight": 0.0},
    **{"expand_cost": 0.0, "branch_cost": 0.0, "backtrack_cost": 0.005},
}
"""Leaving a solution has a small cost, and reading on is free. Only the answer is rewarded: a weak scorer gives its
highest value to the bare problem, so rewards for its values would teach the policy to submit nothing."""


@dataclass(frozen=True)
class Problem:
    """A problem and its four published solutions."""

    question: str
    """Text of the problem."""
    answer: str
    """Gold answer of the problem."""
    solutions: tuple[tuple[str, ...], ...]
    """Lines of each solution."""

    @property
    def part(self) -> str:
        """Use of the problem: ``"scorer"``, ``"train"`` or ``"test"``."""
        return PARTS[derive_seed("part", self.question) % len(PARTS)]


def _problem(row: dict[str, Any], seed: int) -> Problem:
    order = np.random.default_rng(derive_seed(seed, "order", row["question"])).permutation(len(MODELS))
    solutions = tuple(_lines(row[MODELS[i]]["solution"]) for i in order)
    return Problem(row["question"], row["ground_truth"].rpartition(ANSWER)[2], solutions)


def _lines(solution: str) -> tuple[str, ...]:
    *steps, last = filter(None, map(str.strip, strip_calculations(solution).split("\n")))
    boxed = rf"{ANSWER}\boxed{{{last.removeprefix(ANSWER)}}}" if last.startswith(ANSWER) else last
    return (*steps, boxed)


def grades(problems: Sequence[Problem]) -> np.ndarray:
    """Return whether each solution is correct, [problems, 4]."""
    pairs = [("\n".join(lines), p.answer) for p in problems for lines in p.solutions]
    return np.array([grade.correct for grade in grade_math_batch(pairs)]).reshape(len(problems), len(MODELS))


def train_scorer(epochs: int, seed: int, problems: Sequence[Problem], folder: Path) -> None:
    """Fine-tune the embedded model to separate correct solutions from wrong ones."""
    labelled = [
        LabelledSolution(str(i), problem.question, lines, (float(right),) * len(lines), bool(right))
        for i, (problem, row) in enumerate(zip(problems, grades(problems), strict=True))
        for lines, right in zip(problem.solutions, row, strict=True)
    ]
    fine_tune(FineTuningConfig(epochs=epochs), labelled, seed, folder)


def write_problems(problems: Sequence[Problem], file: Path) -> None:
    """Write problems to a JSON-lines file."""
    rows = (json.dumps({"question": p.question, "answer": p.answer}) + "\n" for p in problems)
    file.write_text("".join(rows), encoding="utf-8")


class KnownSteps(Engine):
    """Answers with the step that is known for a request's seed. Each Unicode code point is a token."""

    def __init__(self, steps: dict[int, str]) -> None:
        self.steps = steps
        self.generated_tokens = 0

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Return the step as the only sample."""
        text, stop = StopStrings.cut(self.steps[request.seed][: request.sampling.max_tokens], request.sampling.stop)
        ids = [ord(c) for c in text + (stop or "")]
        self.generated_tokens += len(ids)
        cut = stop is None and len(text) == request.sampling.max_tokens
        prompt = request.prompt
        prompt_ids = prompt if isinstance(prompt[0], int) else [ord(c) for m in prompt for c in m["content"]]
        return [Generation(text, ids, [0.0] * len(ids), "length" if cut else "stop", 0, prompt_ids, stop_string=stop)]


async def record(problems: dict[str, Problem], tasks: Sequence[Task], path: Path, scorer: Path) -> None:
    """Record the solutions of every problem as the steps that the environment will request, with their scores."""
    lines: dict[int, str] = {}
    engine = RecordedEngine(path=str(path), live=KnownSteps(lines))
    reward_model = RecordedStepRewardModel(path=str(path), live={"name": "transformers", "model": str(scorer)})
    env = make_environment("reason_tree", tasks="chain_sum", engine=engine, reward_model=reward_model, **TREE, **PAY)
    assert isinstance(env, ReasonTree)

    async def write(tree_env: ReasonTree, task: Task) -> None:
        await tree_env.reset(seed=0, options={"task": task})
        tree, grower = tree_env.state.tree, tree_env.grower
        for solution in problems[task.question].solutions:
            node: int | None = 0
            for i, line in enumerate(solution):
                if node is None or tree.nodes[node].terminal:
                    break  # another solution has a box before its last line
                lines[grower.request(tree, node).seed] = line + "\n" * (i + 1 < len(solution))
                node = await grower.grow(tree, node)

    for start in range(0, len(tasks), 64):
        await gather(*(write(env.fork(), task) for task in tasks[start : start + 64]))
    engine.close()
    reward_model.close()


async def best_by_score(problems: Sequence[Problem], path: Path, how: str) -> np.ndarray:
    """Return the index of the best solution of each problem by the recorded scores, [problems]."""
    model = RecordedStepRewardModel(path=str(path))
    best = []
    for problem in problems:
        scores = [(await model.score(StepScoreRequest(problem.question, lines))).scores for lines in problem.solutions]
        best.append(int(np.argmax([s[-1] if how == "last" else min(s) for s in scores])))
    return np.array(best)


def majority(problem: Problem) -> int:
    """Return the index of the first solution with the most frequent answer."""
    answers = [extract_answer(lines[-1]) for lines in problem.solutions]
    return max(range(len(answers)), key=lambda i: (answers[i] is not None and answers.count(answers[i]), -i))


def run_options(options: argparse.Namespace, held_out: int) -> list[str]:
    """Return the arguments of the training command."""
    folder = options.folder
    environment = {"tasks": f"{{name: json, path: {folder}}}", **TREE, **PAY}
    return [
        *("env=reason_tree", "engine=recorded", "reward_model=recorded", f"seed={options.seed}"),
        *(f"{part}.path={folder / 'record.jsonl'}" for part in ("engine", "reward_model")),
        *(f"env.{name}={value}" for name, value in environment.items()),
        *(f"steps={options.steps}", f"eval_tasks={held_out}", f"output_dir={folder / 'run'}"),
    ]


def walked(policy: Any, environment: ReasonTree, tasks: TaskSet, greedy: bool) -> np.ndarray:
    """Return whether the policy's answer to each problem is correct, [problems]."""
    solver = Walking(policy, sampling=Sampling(max_tokens=1, temperature=0.0) if greedy else None)
    solved, _ = asyncio.run(solve_all(environment, solver, list(tasks), 0))
    return np.array([s.correct for s in solved])


def arms(problems: Sequence[Problem], folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name of each arm and its accuracy on every held-out problem, [problems]."""
    right = grades(problems)
    rows = np.arange(len(problems))
    yield "a solution at random", right.mean(1)
    yield "majority of 4", right[rows, [majority(p) for p in problems]]
    for how in ("last", "min"):
        best = asyncio.run(best_by_score(problems, folder / "record.jsonl", how))
        yield f"best of 4 by the scorer ({how} step)", right[rows, best]
    run = load_run(str(folder / "run"))
    assert isinstance(run.environment, ReasonTree)
    assert run.test_tasks is not None
    yield "random legal actions", walked(RandomLegal(), run.environment, run.test_tasks, greedy=False)
    yield "trained policy, greedy", walked(run.policy, run.environment, run.test_tasks, greedy=True)
    yield "ceiling: any of 4", right.max(1)


def main() -> None:
    """Record, train and report."""
    parser = option_parser(__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/gsm8k_record"), help="folder of all results")
    parser.add_argument("--scorer-epochs", type=int, default=4, help="training epochs of the scorer (default 4)")
    parser.add_argument("--steps", type=int, default=100, help="training steps of the policy (default 100)")
    options = parser.parse_args()
    folder = options.folder
    problems = [_problem(row, options.seed) for row in read_rows(options.data)]
    parts = {part: [p for p in problems if p.part == part] for part in dict.fromkeys(PARTS)}
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        write_problems(parts[part], folder / f"{part}.jsonl")
    if not (folder / "scorer").exists():
        train_scorer(options.scorer_epochs, options.seed, parts["scorer"], folder / "scorer")
    tasks = [task for split in ("train", "test") for task in make({"name": "json", "path": str(folder)}, split)]
    asyncio.run(record({p.question: p for p in problems}, tasks, folder / "record.jsonl", folder / "scorer"))
    if not (folder / "run").exists():
        train(compose_config(run_options(options, len(parts["test"]))))
    print(f"Held-out problems: {len(parts['test'])}\n\n| arm | accuracy | 95 % interval |\n|---|---|---|")
    for name, values in arms(parts["test"], folder):
        low, high = bootstrap_interval(values.astype(float), 0)
        print(f"| {name} | {values.mean():.1%} | {low:.1%} to {high:.1%} |")


if __name__ == "__main__":
    with report_errors():
        main()
