"""One-line functions, described in words and tested: programs that a tiny model can write."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from reason_envs.tasks.base import Split, Task
from reason_envs.tasks.generated.base import GeneratedTaskSet, checked_size, from_random

NAMES = ("f", "g", "h")
TESTS = 5
"""Number of assertions per task; the first one is public."""


@dataclass(frozen=True)
class Kind:
    """First part of a function, before it multiplies and adds."""

    words: str
    """Description in words."""
    code: str
    """Python expression."""
    parameters: str
    """Parameters of the function, as in its signature."""
    value: Callable[..., int]
    """Computes the value of the expression for arguments."""
    arguments: Callable[[Random], tuple[Any, ...]]
    """Draws arguments of the function."""


def _two(rng: Random) -> tuple[Any, ...]:
    return rng.randint(-20, 20), rng.randint(-20, 20)


def _numbers(rng: Random) -> tuple[Any, ...]:
    return ([rng.randint(-9, 20) for _ in range(rng.randint(1, 5))],)


def _word(rng: Random) -> tuple[Any, ...]:
    return ("".join(rng.choice("abcdxyz") for _ in range(rng.randint(1, 8))),)


KINDS = (
    Kind("a plus b", "(a + b)", "a, b", lambda a, b: a + b, _two),
    Kind("a minus b", "(a - b)", "a, b", lambda a, b: a - b, _two),
    Kind("a times b", "a * b", "a, b", lambda a, b: a * b, _two),
    Kind("the larger of a and b", "max(a, b)", "a, b", max, _two),
    Kind("the smaller of a and b", "min(a, b)", "a, b", min, _two),
    Kind("the sum of xs", "sum(xs)", "xs", sum, _numbers),
    Kind("the largest of xs", "max(xs)", "xs", max, _numbers),
    Kind("the length of xs", "len(xs)", "xs", len, _numbers),
    Kind("the length of the text s", "len(s)", "s", len, _word),
)


def one_line_code(split: Split, *, size: int | None = None, seed: int = 0) -> GeneratedTaskSet:
    """One-line functions, such as "the larger of a and b, times 4, plus 7", with tests.

    Args:
        split: ``"train"`` or ``"test"``.
        size: number of tasks. ``None``: 10,000 for train and 2,048 for test.
        seed: seed of the tasks.
    """
    return GeneratedTaskSet("one_line_code", split, from_random(draw), checked_size(split, size, seed, None), seed)


def draw(rng: Random) -> Task:
    """Draw a task. The answer is a reference solution, and the metadata has the tests."""
    kind, name = rng.choice(KINDS), rng.choice(NAMES)
    factor, term, sign = rng.randint(2, 99), rng.randint(1, 99), rng.choice(("plus", "minus"))
    question = f"Write a function {name}({kind.parameters}) that returns {kind.words}, times {factor}, {sign} {term}."
    operator = "+" if sign == "plus" else "-"
    code = f"def {name}({kind.parameters}):\n    return {kind.code} * {factor} {operator} {term}"
    tests = []
    for _ in range(TESTS):
        arguments = kind.arguments(rng)
        value = kind.value(*arguments) * factor + (term if sign == "plus" else -term)
        tests.append(f"assert {name}({', '.join(map(repr, arguments))}) == {value}")
    metadata = {
        "domain": "code",
        "entry_point": name,
        "tests": {"code": code, "test_list": tests},
        "public_tests": tests[:1],
    }
    return Task("", question, code, metadata)
