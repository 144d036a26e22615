"""What do hand-written workflows gain over one call of the same executor, and for how many tokens?

This command does everything. It continues after an interruption:

    python -m benchmarks.real.workflows --model FOLDER --data FOLDER

The first folder holds Qwen2.5-Coder-0.5B-Instruct in Hugging Face format, the second the folders ``humaneval``,
``mbpp``, ``gsm8k`` and ``hotpotqa``. The programs are written in AFlow's format, with the operators that its authors
chose for each kind of problem. No program was changed after its result was seen. Without ``--model`` nothing is
sampled, and the table is made again from the raw rows.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from agents.config.command_line import report_errors
from agents.evaluation.intervals import first_tasks, share_interval
from benchmarks.real.raw_rows import Row, append, read
from reason_envs import make_environment
from reason_envs.batching import gather
from reason_envs.core import Environment, checked_reset, checked_step, derive_seed
from reason_envs.tasks import Task, make
from reason_envs.tasks.files.evaluation_sets import benchmark_tasks

FOLDER = Path(__file__).with_suffix("")
TOGETHER = 16
"""Number of problems that are solved at once."""
CLASS = """class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
{operators}

    async def __call__(self, problem{entry_point}):
{body}, self.llm.get_usage_summary()["total_cost"]
"""
SOLVE = 'self.custom(input=problem, instruction="Reason step by step. Put the final answer into \\boxed{}.")'
WRITE = 'self.write(problem=problem, entry_point=entry_point, instruction="")'
ANSWER = "self.answer(input=problem)"


def vote(call: str, field: str, count: int) -> str:
    """Return statements that let the executor answer ``count`` times and choose the most frequent answer."""
    return (
        f"import asyncio\nxs = await asyncio.gather(*[{call} for i in range({count})])\n"
        f'a = await self.vote(solutions=[x["{field}"] for x in xs], problem=problem)'
    )


MATH = {
    "one call": ("custom=Custom", f"a = await {SOLVE}", "response"),
    "vote of 5": ("custom=Custom vote=ScEnsemble", vote(SOLVE, "response", 5), "response"),
    "program": (
        "custom=Custom program=Programmer",
        'p = await self.program(problem=problem, analysis="")\n'
        'a = await self.custom(input=problem + "\\nA program returned: " + p["output"], '
        r'instruction="Use this result if it is right. Put the final answer into \\boxed{}.")',
        "response",
    ),
}
CODE = {
    "one call": ("write=CustomCodeGenerate", f"a = await {WRITE}", "response"),
    "vote of 3": ("write=CustomCodeGenerate vote=ScEnsemble", vote(WRITE, "response", 3), "response"),
    "test and repair": (
        "write=CustomCodeGenerate test=Test",
        f'w = await {WRITE}\na = await self.test(problem=problem, solution=w["response"], entry_point=entry_point)',
        "solution",
    ),
}
QUESTIONS = {
    "one call": ("answer=AnswerGenerate", f"a = await {ANSWER}", "answer"),
    "vote of 3": ("answer=AnswerGenerate vote=ScEnsemble", vote(ANSWER, "answer", 3), "response"),
}
PROGRAMS = {"humaneval": CODE, "mbpp": CODE, "gsm8k": MATH, "hotpotqa": QUESTIONS}
"""Operators, statements, and output field with the result, of each program by data set."""
PROBLEMS = {"humaneval": 64, "mbpp": 64, "gsm8k": 48, "hotpotqa": 32}
"""Number of problems of each data set."""


def program(data_set: str, name: str) -> str:
    """Return a program as a writer would write it."""
    operators, statements, field = PROGRAMS[data_set][name]
    pairs = [each.partition("=") for each in operators.split()]
    return CLASS.format(
        operators="\n".join(f"        self.{own} = operator.{operator}(self.llm)" for own, _, operator in pairs),
        entry_point=", entry_point" if PROGRAMS[data_set] is CODE else "",
        body="\n".join(f"        {line}" for line in [*statements.split("\n"), f'return a["{field}"]']),
    )


def environment(model: str, data_set: str, data: str) -> Environment:
    """Return the environment of a data set. Its executor samples at 0.7, at most 512 tokens per call."""
    return make_environment(
        "workflow",
        tasks=benchmark_tasks(data_set, Path(data)),
        split="test",
        engine={"name": "transformers", "model": model, "dtype": "bfloat16"},
        prompts="full",
        executor_max_tokens=512,
        execution_timeout=7200.0,
        sandbox="native",
    )


async def solved(env: Environment, task: Task, name: str, text: str) -> Row:
    """Run a program on a problem."""
    await checked_reset(env, seed=derive_seed(0, name, task.id), options={"task": task})
    info = (await checked_step(env, {env.agents[0]: text})).info
    kept = ("correct", "score", "verdict", "executor_calls", "generated_tokens")
    return {"id": task.id, "program": name, **{key: info[key] for key in kept}}


def sample(model: str, data_set: str, data: str, file: Path) -> None:
    """Append the missing rows of a data set to the file of its raw rows."""
    done = {(row["program"], row["id"]) for row in read(file)}
    tasks = first_tasks(make(benchmark_tasks(data_set, Path(data)), "test"), PROBLEMS[data_set])
    missing = [(name, task) for name in PROGRAMS[data_set] for task in tasks if (name, task.id) not in done]
    if not missing:
        return
    env = environment(model, data_set, data)
    for start in range(0, len(missing), TOGETHER):
        rows = asyncio.run(_solved(env, data_set, missing[start : start + TOGETHER]))
        append(file, rows)
        print(f"{data_set}: {start + len(rows)} of {len(missing)} missing workflows", flush=True)
    env.close()


async def _solved(env: Environment, data_set: str, wanted: Sequence[tuple[str, Task]]) -> Sequence[Row]:
    return await gather(*(solved(env.fork(), task, name, program(data_set, name)) for name, task in wanted))


def table(folder: Path) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| data set | workflow | problems | right | 95 % interval | F1 | calls | tokens per problem | not ok |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for data_set, programs in PROGRAMS.items():
        rows = read(folder / f"{data_set}.jsonl")
        for name in programs:
            if own := [row for row in rows if row["program"] == name]:
                yield line(data_set, name, own)


def line(data_set: str, name: str, rows: Sequence[Row]) -> str:
    """Return the line of a workflow."""
    right = np.array([float(row["correct"]) for row in rows])
    low, high = share_interval(right, 0)
    score = f"{np.mean([row['score'] for row in rows]):.1%}" if data_set == "hotpotqa" else "-"
    calls, tokens = (np.mean([row[key] for row in rows]) for key in ("executor_calls", "generated_tokens"))
    failed = np.mean([row["verdict"] != "ok" for row in rows])
    return (
        f"| {data_set} | {name} | {len(rows)} | {right.mean():.1%} | {low:.1%} to {high:.1%} | {score} "
        f"| {calls:.1f} | {tokens:.0f} | {failed:.0%} |"
    )


def main() -> None:
    """Run missing workflows, and make the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of the executor (none: only report)")
    data = os.environ.get("REASON_ENVS_DATA")
    parser.add_argument("--data", default=data, help="folder of the data sets (default: $REASON_ENVS_DATA)")
    parser.add_argument("--sets", nargs="+", choices=PROGRAMS, default=list(PROGRAMS), help="data sets to run")
    arguments = parser.parse_args()
    if arguments.model and arguments.data is None:
        parser.error("--data is missing: pass the folder of the data sets, or set REASON_ENVS_DATA.")
    FOLDER.mkdir(exist_ok=True)
    for data_set in arguments.sets if arguments.model else ():
        sample(arguments.model, data_set, arguments.data, FOLDER / f"{data_set}.jsonl")
    text = "\n".join(table(FOLDER))
    print(text)
    (FOLDER / "table.md").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    with report_errors():
        main()
