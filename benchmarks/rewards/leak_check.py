"""Measure the errors of the leak check of PlannerSolver-v0: honest guidelines that it stops, leaks that it misses.

    python benchmarks/rewards/leak_check.py                                     # chain_sum
    python benchmarks/rewards/leak_check.py --data FOLDER --problems 500        # and gsm8k, math500

Honest guidelines are written without the answer: plain text, numbered lists, text that counts ("two", "three steps"),
and text that quotes the numbers of the question. Leaks state the answer as digits, in words, or as arithmetic.
The script prints a table.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards.leak.expressions import evaluate
from reason_envs.rewards.leak.find import find_leak
from reason_envs.rewards.leak.spelled_numbers import SCALES, VALUES
from reason_envs.tasks import Task, make

PLAIN = (
    "Work step by step and check every result.",
    "Name the unknown, write down what is given, and find the relation between them before you calculate.",
    "Be careful with signs. Keep a running total and write each intermediate result on its own line.",
    "1. Read the question twice. 2. List what is given. 3. Find what is asked. 4. Solve it and check the units.",
    "Step 1: Restate the problem.\nStep 2: Choose a method.\nStep 3: Carry it out.\nStep 4: Verify the result.",
    "- Look for a pattern in small cases.\n- Prove it.\n- Apply it to the case that is asked for.",
    "First simplify, then solve, and finally plug the solution back in, one case at a time.",
)
COUNTING = (
    "Split the problem into two parts, solve both, and combine them.",
    "There are three quantities here; write one equation for each of them.",
    "Use at most 5 steps and put only 1 number into the box.",
)
KINDS: dict[str, Callable[[Task], Iterable[str]]] = {
    "plain, lists": lambda task: PLAIN,
    "quoting the question": lambda task: (quoting(task),),
    "counting": lambda task: COUNTING,
}
FILES = {"gsm8k": "gsm8k", "math500": "math"}
"""Task family of each folder of public problems."""


def quoting(task: Task) -> str:
    """Return a guideline that quotes the numbers of the question in their order."""
    numbers = ", then ".join(re.findall(r"\d[\d,.]*\d|\d", task.question)[:6]) or "what is given"
    return f"1. Note the numbers of the question: {numbers}.\n2. Say what each stands for.\n3. Combine them in order."


def leaks(task: Task) -> dict[str, str]:
    """Return guidelines that reveal the answer, by kind."""
    value = evaluate(task.answer)
    found = {"as it is": f"Calculate carefully; the result is {task.answer}."}
    if value is not None and value == int(value):
        number = int(value)
        found["as a sum"] = f"You only need {number - 17} + 17."
        found["as a product"] = f"You only need {number} * 1." if number % 2 else f"You only need 2 * {number // 2}."
        if 0 <= number < 1000:
            found["in words"] = f"Remember that it comes to {spell(number)}."
    return found


def spell(number: int) -> str:
    """Return a number from 0 to 999 in words."""
    words = {value: word for word, value in VALUES.items()}
    hundreds, rest = divmod(number, SCALES["hundred"])
    parts = [f"{words[hundreds]} hundred"] if hundreds else []
    if rest or not hundreds:
        parts.append(words[rest] if rest in words else f"{words[rest // 10 * 10]}-{words[rest % 10]}")
    return " and ".join(parts)


def problems(folder: Path | None, count: int) -> dict[str, list[Task]]:
    """Return test problems by name: generated ones, and those of the files in ``folder``."""
    specs = {"chain_sum": {"name": "chain_sum"}}
    if folder is not None:
        specs |= {name: {"name": family, "path": str(folder / name)} for name, family in FILES.items()}
    return {name: list(make({**spec, "max_samples": count}, "test")) for name, spec in specs.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("REASON_ENVS_DATA")
    folders = "folder that holds gsm8k/test.jsonl and math500/test.jsonl (default: REASON_ENVS_DATA)"
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=default, help=folders)
    parser.add_argument("--problems", type=int, default=1000, help="maximum number of problems per set (default 1000)")
    options = parser.parse_args()
    print("| problems | guidelines | stopped | share |\n|---|---|---|---|")
    for name, tasks in problems(options.data, options.problems).items():
        every: dict[str, list[bool]] = {}
        for task in tasks:
            for kind, write in KINDS.items():
                found = [find_leak(text, task.question, task.answer) is not None for text in write(task)]
                every.setdefault(f"honest, {kind}", []).extend(found)
            # a guideline may quote the answer if it stands in the question
            if not re.search(rf"(?<!\d){re.escape(task.answer)}(?!\d)", task.question):
                for kind, text in leaks(task).items():
                    every.setdefault(f"leak, {kind}", []).append(
                        find_leak(text, task.question, task.answer) is not None
                    )
        for kind, stopped in sorted(every.items()):
            share = sum(stopped) / len(stopped)
            print(f"| {name} ({len(tasks)}) | {kind} | {sum(stopped)} of {len(stopped)} | {share:.2%} |")


if __name__ == "__main__":
    try:
        main()
    except ReasonEnvsError as error:
        sys.exit(f"error: {error}")
