"""How often the leak check of PlannerSolver-v0 is wrong: honest guidelines it stops, leaks it lets pass.

    python benchmarks/rewards/leak_check.py                        # chain_sum, and the files in ../shared/data
    python benchmarks/rewards/leak_check.py data=/path/to/data problems=500

Honest guidelines are written here without a look at the answer: plain ones, numbered lists, some that count ("two",
"three steps"), some that quote the question's numbers. Leaks state the answer as digits, in words, or as arithmetic.
Prints a table.
"""

from __future__ import annotations

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
FILES = {"gsm8k": ("gsm8k", "gsm8k"), "math500": ("math", "math500")}


def quoting(task: Task) -> str:
    """Name the question's numbers in their order, and its arithmetic, where it has any."""
    numbers = ", then ".join(re.findall(r"\d[\d,.]*\d|\d", task.question)[:6]) or "what is given"
    return f"1. Note the numbers of the question: {numbers}.\n2. Say what each stands for.\n3. Combine them in order."


def leaks(task: Task) -> dict[str, str]:
    """Guidelines that give the answer away."""
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
    """Write a number from 0 to 999 in words."""
    words = {value: word for word, value in VALUES.items()}
    hundreds, rest = divmod(number, SCALES["hundred"])
    parts = [f"{words[hundreds]} hundred"] if hundreds else []
    if rest or not hundreds:
        parts.append(words[rest] if rest in words else f"{words[rest // 10 * 10]}-{words[rest % 10]}")
    return " and ".join(parts)


def problems(folder: Path, count: int) -> dict[str, list[Task]]:
    """Read the problem sets that are there."""
    sets = {"chain_sum": list(make({"name": "chain_sum", "max_samples": count}, "test"))}
    for name, (family, directory) in FILES.items():
        try:
            sets[name] = list(make({"name": family, "path": str(folder / directory), "max_samples": count}, "test"))
        except ReasonEnvsError as error:
            print(f"{name} left out: {error}", file=sys.stderr)
    return sets


def main() -> None:
    """Measure and print."""
    options = {"data": "../shared/data", "problems": "1000"}
    options.update(argument.split("=", 1) for argument in sys.argv[1:])
    print("| problems | guidelines | stopped | share |\n|---|---|---|---|")
    for name, tasks in problems(Path(options["data"]), int(options["problems"])).items():
        every: dict[str, list[bool]] = {}
        for task in tasks:
            for kind, write in KINDS.items():
                found = [find_leak(text, task.question, task.answer) is not None for text in write(task)]
                every.setdefault(f"honest, {kind}", []).extend(found)
            if not re.search(rf"(?<!\d){re.escape(task.answer)}(?!\d)", task.question):  # else it may be quoted
                for kind, text in leaks(task).items():
                    every.setdefault(f"leak, {kind}", []).append(
                        find_leak(text, task.question, task.answer) is not None
                    )
        for kind, stopped in sorted(every.items()):
            share = sum(stopped) / len(stopped)
            print(f"| {name} ({len(tasks)}) | {kind} | {sum(stopped)} of {len(stopped)} | {share:.2%} |")


if __name__ == "__main__":
    main()
