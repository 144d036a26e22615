"""Statistics of a task set."""

from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from statistics import fmean, median

from reason_envs.tasks.base import Task, TaskSet
from reason_envs.tasks.task_list import NO_ANSWER
from reason_envs.tasks.text import normalise_number

_TESTS = ("tests", "test_list", "entry_point", "inputs")
"""Metadata keys of tasks whose answer is a program (see `reason_envs.rewards.code.tests.read_tests`)."""


@dataclass(frozen=True)
class Lengths:
    """A distribution of lengths."""

    mean: float
    """Mean of the lengths."""
    median: float
    """Median of the lengths."""
    maximum: int
    """Maximum length."""

    def __str__(self) -> str:
        """Return the statistics on one line."""
        return f"mean {self.mean:.1f}, median {self.median:g}, maximum {self.maximum}"


@dataclass(frozen=True)
class Stats:
    """Statistics of one task set."""

    count: int
    """Number of tasks."""
    skipped: int
    """Number of records without an answer that were left out."""
    duplicates: int
    """Number of tasks whose question occurred before."""
    characters: Lengths
    """Length of the questions in characters."""
    tokens: Lengths | None
    """Length of the questions in tokens of the embedded model; ``None`` if its tokenizer is not installed."""
    answer_kinds: dict[str, int]
    """Number of answers of each kind."""
    sources: dict[str, int]
    """Number of tasks from each part of a mixture; empty for other sets."""


def stats(tasks: TaskSet) -> Stats:
    """Read a complete task set and return its statistics."""
    problems = list(tasks)
    questions = [task.question for task in problems]
    sources = Counter(task.metadata["source"] for task in problems if "source" in task.metadata)
    return Stats(
        count=len(problems),
        skipped=tasks.left_out.get(NO_ANSWER, 0),
        duplicates=len(questions) - len(set(questions)),
        characters=_lengths([len(question) for question in questions]),
        tokens=_token_lengths(questions),
        answer_kinds=dict(Counter(map(_kind, problems)).most_common()),
        sources=dict(sources.most_common()),
    )


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


def _kind(task: Task) -> str:
    return "program" if task.answer and any(name in task.metadata for name in _TESTS) else answer_kind(task.answer)


def _lengths(values: list[int]) -> Lengths:
    return Lengths(fmean(values), median(values), max(values))


def _token_lengths(questions: list[str]) -> Lengths | None:
    tokenizer_file = files("reason_envs") / "llm" / "embedded" / "base" / "tokenizer.json"
    if not tokenizer_file.is_file():
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tokenizer_file.read_text(encoding="utf-8"))
    return _lengths([len(encoding.ids) for encoding in tokenizer.encode_batch(questions)])
