"""How many problems of GSM8K does a frozen generator solve, with one solution and with a majority vote of many?

These are the baselines that a search over the same generator has to beat. This command does everything. It continues
after an interruption:

    python -m benchmarks.real.gsm8k_solutions --model FOLDER --data FOLDER --problems 48

The first folder holds Qwen2.5-Coder-0.5B-Instruct in Hugging Face format, the second ``gsm8k/test.jsonl``. Each problem
gets one greedy solution and 16 at temperature 1. Without ``--model`` nothing is sampled, and table and plot are made
again from the raw rows. The accuracy of N < 16 solutions is the mean over 1,000 random subsets of the 16.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from agents.config.command_line import report_errors
from agents.evaluation.intervals import first_tasks, share_interval
from agents.evaluation.vote import vote
from benchmarks.real.raw_rows import Row, append, read
from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.llm import make_engine
from reason_envs.llm.engine import Engine, Generation, GenerationRequest, Sampling, greedy
from reason_envs.rewards import grade_math
from reason_envs.tasks import Task, make

FOLDER = Path(__file__).with_suffix("")
SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
"""The system prompt with which the generator was trained."""
REQUEST = "Please reason step by step, and put your final answer within \\boxed{}."
SAMPLING = Sampling(max_tokens=512)
SAMPLES = 16
TOGETHER = 6
"""Number of problems whose solutions are sampled at once."""
SIZES = (1, 2, 4, 8, 16)
"""Numbers of solutions per problem in the table."""
SUBSETS = 1000
"""Number of random subsets of the solutions of a problem that are averaged."""
MAJORITY = "majority vote"
CEILING = "any right (ceiling)"
ROWS = FOLDER / "rows.jsonl"


def graded(generation: Generation, task: Task) -> list[Any]:
    """Return answer (its last number if it has no box), correctness and number of tokens of a solution."""
    grade = grade_math(generation.text, task.answer, ("last_number",))
    return [grade.extracted, grade.correct, generation.generated_tokens]


async def solved(engine: Engine, task: Task) -> Row:
    """Return the row of a problem: its greedy solution and the sampled ones, each as `graded` returns it."""
    prompt = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"{task.question}\n{REQUEST}"}]
    request = GenerationRequest(prompt, derive_seed(0, "solutions", task.question), SAMPLING, n=SAMPLES)
    single = replace(request, sampling=greedy(SAMPLING), n=1)
    (best,), sampled = await gather(engine.generate(single), engine.generate(request))
    return {"id": task.id, "greedy": graded(best, task), "solutions": [graded(each, task) for each in sampled]}


def sample(model: str, data: str, problems: int, file: Path) -> None:
    """Append the missing ones of the first ``problems`` shuffled problems to the file of raw rows."""
    done = {row["id"] for row in read(file)}
    tasks = first_tasks(make({"name": "gsm8k", "path": f"{data}/gsm8k"}, "test"), problems)
    missing = [task for task in tasks if task.id not in done]
    if not missing:
        return
    engine = make_engine("transformers", model=model, dtype="bfloat16")
    for start in range(0, len(missing), TOGETHER):
        rows = asyncio.run(_solved(engine, missing[start : start + TOGETHER]))
        append(file, rows)
        print(f"{len(done) + start + len(rows)} of {len(tasks)} problems", flush=True)
    engine.close()


async def _solved(engine: Engine, tasks: Sequence[Task]) -> Sequence[Row]:
    return await gather(*(solved(engine, task) for task in tasks))


def majority(solutions: Sequence[Sequence[Any]]) -> bool:
    """Return whether the most frequent answer is right. Solutions without an answer have no vote."""
    answered = [each for each in solutions if each[0] is not None]
    return bool(answered) and answered[vote([each[0] for each in answered])][1]


def voted(row: Row, size: int) -> tuple[float, float]:
    """Return the share of subsets of ``size`` solutions whose majority is right, and that of those with a right one."""
    generator = np.random.default_rng(derive_seed(0, "subsets", row["id"], size))
    solutions = row["solutions"]
    count = 1 if size == len(solutions) else SUBSETS
    subsets = [[solutions[i] for i in generator.permutation(len(solutions))[:size]] for _ in range(count)]
    right = np.mean([[majority(each), any(solution[1] for solution in each)] for each in subsets], axis=0)
    return float(right[0]), float(right[1])


@dataclass(frozen=True)
class Point:
    """Accuracy of a method with a number of solutions per problem."""

    method: str
    solutions: int
    right: np.ndarray
    """Share of right answers of each problem, [problems]."""
    tokens: float
    """Mean number of generated tokens per problem."""

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy (bootstrap over problems)."""
        return share_interval(self.right, 0)


def points(rows: Sequence[Row]) -> Iterator[Point]:
    """Yield the accuracy of each method."""
    greedily = [row["greedy"] for row in rows]
    yield Point("greedy", 1, np.array([float(each[1]) for each in greedily]), float(np.mean([e[2] for e in greedily])))
    tokens = float(np.mean([[solution[2] for solution in row["solutions"]] for row in rows]))
    for size in SIZES:
        votes, ceiling = np.array([voted(row, size) for row in rows]).T
        yield Point(MAJORITY, size, votes, size * tokens)
        if size > 1:
            yield Point(CEILING, size, ceiling, size * tokens)


def table(found: Sequence[Point]) -> Iterator[str]:
    """Yield the lines of the table."""
    yield f"| method, {len(found[0].right)} problems | solutions | right | 95 % interval | tokens per problem |"
    yield "|---|---|---|---|---|"
    for each in found:
        low, high = each.interval
        share = f"{each.right.mean():.1%} | {low:.1%} to {high:.1%}"
        yield f"| {each.method} | {each.solutions} | {share} | {each.tokens:,.0f} |"


def plot(found: Sequence[Point], path: Path) -> None:
    """Plot accuracy against generated tokens."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for place, method in enumerate(dict.fromkeys(each.method for each in found)):
        curve = [each for each in found if each.method == method]
        right = np.array([100 * each.right.mean() for each in curve])
        ends = 100 * np.array([each.interval for each in curve]).T
        off = np.abs(ends - right)
        axes.errorbar(
            [each.tokens for each in curve], right, off, marker="o", color=f"C{place}", label=method, capsize=2
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="generated tokens per problem (log scale)", ylabel="right, % (95 % interval)", ylim=(0, 100))
    axes.set_title("GSM8K, Qwen2.5-Coder-0.5B-Instruct, frozen", fontsize="medium")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Sample missing solutions, and make table and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of the generator (none: only report)")
    data = os.environ.get("REASON_ENVS_DATA")
    parser.add_argument("--data", default=data, help="folder that holds gsm8k/test.jsonl (default: $REASON_ENVS_DATA)")
    parser.add_argument("--problems", type=int, default=48, help="number of problems (default: 48)")
    arguments = parser.parse_args()
    if arguments.model and arguments.data is None:
        parser.error("--data is missing: pass the folder that holds gsm8k/test.jsonl, or set REASON_ENVS_DATA.")
    if arguments.model:
        FOLDER.mkdir(exist_ok=True)
        sample(str(arguments.model), arguments.data, arguments.problems, ROWS)
    found = list(points(read(ROWS)))
    text = "\n".join(table(found))
    print(text)
    (FOLDER / "table.md").write_text(text + "\n", "utf-8")
    plot(found, FOLDER / "accuracy.png")


if __name__ == "__main__":
    with report_errors():
        main()
