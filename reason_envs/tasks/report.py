"""Statistics of a task set."""

from collections import Counter
from importlib.resources import files
from statistics import fmean, median

from reason_envs.tasks.base import TaskSet
from reason_envs.tasks.task_list import NO_ANSWER
from reason_envs.tasks.text import normalise_number

_TESTS = ("tests", "test_list", "entry_point", "inputs")
"""Metadata keys of tasks whose answer is a program (see `reason_envs.rewards.code.tests.read_tests`)."""


def stats(tasks: TaskSet) -> dict[str, str]:
    """Read a complete task set and return its statistics as text, by label. Lengths are those of the questions."""
    from tokenizers import Tokenizer

    problems = list(tasks)
    questions = [task.question for task in problems]
    tokenizer_file = files("reason_envs") / "llm" / "embedded" / "base" / "tokenizer.json"
    tokenizer = Tokenizer.from_str(tokenizer_file.read_text(encoding="utf-8"))
    programs = {task.id for task in problems if task.answer and any(name in task.metadata for name in _TESTS)}
    kinds = Counter("program" if task.id in programs else answer_kind(task.answer) for task in problems)
    return {
        "tasks": str(len(problems)),
        "left out (no answer)": str(tasks.left_out.get(NO_ANSWER, 0)),
        "duplicates": str(len(questions) - len(set(questions))),
        "question characters": _lengths([len(question) for question in questions]),
        "question tokens": _lengths([len(encoding.ids) for encoding in tokenizer.encode_batch(questions)]),
        "answers": _counts(kinds),
        "sources": _counts(Counter(task.metadata["source"] for task in problems if "source" in task.metadata)),
    }


def overlap(train: TaskSet, test: TaskSet) -> int:
    """Return the number of questions that occur in both sets; it should be 0."""
    return len({task.question for task in train} & {task.question for task in test})


def answer_kind(answer: str) -> str:
    """Return the kind of an answer: ``none``, ``integer``, ``decimal``, ``expression`` or ``text``."""
    number = normalise_number(answer.strip())
    if not number:
        return "none"
    if number.lstrip("+-").isdigit():
        return "integer"
    if number.lstrip("+-").replace(".", "", 1).isdigit():
        return "decimal"
    return "expression" if any(character in answer for character in "\\^=/*+0123456789") else "text"


def _counts(found: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in found.most_common())


def _lengths(values: list[int]) -> str:
    return f"mean {fmean(values):.1f}, median {median(values):g}, maximum {max(values)}"
