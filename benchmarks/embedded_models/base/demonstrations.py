"""Problems with worked solutions, one step per line, for training the embedded models; and a check of steps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from agents.reward_model.metrics import check_step
from reason_envs.tasks.base import Split, split_of
from reason_envs.tasks.generated.reasoning_gym import FAMILY_DEFAULTS

QUESTION = "State the final answer to the following arithmetic problem: {expression} ="
"""Wording of ``chain_sum`` in reasoning-gym."""
_SIZES = FAMILY_DEFAULTS["chain_sum"]
TERMS = (_SIZES["min_terms"], _SIZES["max_terms"])
"""Minimum and maximum number of terms of a sum in the default task."""
DIGITS = (_SIZES["min_digits"], _SIZES["max_digits"])
"""Minimum and maximum number of digits of a term in the default task."""


@dataclass(frozen=True)
class Demonstration:
    """A problem and a response to it."""

    family: str
    """Name of the family of the problem, as in reasoning-gym."""
    question: str
    """Text of the user message."""
    solution: str
    """Text of the assistant message: steps, then ``\\boxed{answer}``."""
    problem: str = ""
    """Question of the task if the user message has more text. Empty: the user message."""
    system: str = ""
    """Text of the system message. Empty: no system message."""

    @property
    def prompt(self) -> list[dict[str, str]]:
        """Messages before the solution."""
        user = {"role": "user", "content": self.question}
        return [{"role": "system", "content": self.system}, user] if self.system else [user]

    @property
    def split(self) -> Split:
        """Split of the problem."""
        return split_of(self.problem or self.question)


def chain_sum_expression(rng: Random, terms: tuple[int, int] = TERMS, digits: tuple[int, int] = DIGITS) -> str:
    """Draw a sum as ``chain_sum`` of reasoning-gym does: equal generator states give equal expressions."""
    count, size = rng.randint(*terms), rng.randint(*digits)
    low, high = (0 if size == 1 else 10 ** (size - 1)), 10**size - 1
    numbers = [rng.randint(low, high) for _ in range(count)]
    signs = [rng.choice(["+", "-"]) for _ in range(count - 1)]
    return " ".join([str(numbers[0]), *(f"{s} {n}" for s, n in zip(signs, numbers[1:], strict=True))])


def running_sums(expression: str, slip: Callable[[int], int] | None = None) -> tuple[list[str], int]:
    """Compute ``4 - 1 + 7`` from left to right.

    Args:
        expression: integers joined by `` + `` and `` - ``.
        slip: returns the result to write for the correct result of a step. The next step continues from it. ``None``:
            no changes.

    Returns:
        The lines (``4 - 1 = 3``, ``3 + 7 = 10``) and the last result.
    """
    first, *rest = expression.split(" ")
    total, lines = int(first), []
    for sign, term in zip(rest[::2], rest[1::2], strict=True):
        result = total + int(term) if sign == "+" else total - int(term)
        result = slip(result) if slip else result
        lines.append(f"{total} {sign} {term} = {result}")
        total = result
    return lines, total


def boxed(answer: int | str) -> str:
    """Return the last line of a solution."""
    return f"\\boxed{{{answer}}}"


def careful(expression: str) -> str:
    """Solve a sum step by step without a mistake."""
    lines, total = running_sums(expression)
    return "\n".join([*lines, boxed(total)])


def slipping(expression: str, rng: Random, rate: float) -> str:
    """Solve a sum step by step. Each step is wrong with probability ``rate``, and the next one continues from it."""
    lines, total = running_sums(expression, lambda right: slip(right, rng) if rng.random() < rate else right)
    return "\n".join([*lines, boxed(total)])


def hasty(expression: str) -> str:
    """Answer a sum without steps."""
    return boxed(running_sums(expression)[1])


def slip(right: int, rng: Random) -> int:
    """Return a plausible wrong result: off by one, two or ten, or the wrong sign."""
    wrong = rng.choice([right - 1, right + 1, right - 10, right + 10, right - 2, right + 2, -right])
    return wrong if wrong != right else right + 1


def products(question: str) -> str:
    """Multiply two whole numbers digit by digit of the second one (``12 * 34``: 12 * 4, 12 * 30, their sum)."""
    left, right = (int(n) for n in re.findall(r"\d+", question)[:2])
    parts = [int(d) * 10**i for i, d in enumerate(reversed(str(right)))]
    lines = [f"{left} * {part} = {left * part}" for part in parts]
    total = left * parts[0]
    for part in parts[1:]:
        lines.append(f"{total} + {left * part} = {total + left * part}")
        total += left * part
    return "\n".join([*lines, boxed(left * right)])


def leg_counting(question: str, metadata: Mapping[str, Any], answer: str) -> str:
    """Count legs: one product and one running sum per animal."""
    legs = _legs()
    lines, total = [], 0
    for animal, count in metadata["animals"].items():
        part = count * legs[animal]
        lines += [f"{animal}: {count} * {legs[animal]} = {part}", f"{total} + {part} = {total + part}"]
        total += part
    if str(total) != answer:
        raise ValueError(f"The computed total of {question!r} is {total}, but its answer is {answer}.")
    return "\n".join([*lines, boxed(answer)])


def gsm_symbolic(metadata: Mapping[str, Any], answer: str) -> str:
    """Clean the worked solution of a word problem of reasoning-gym: one step per line, the answer in a box."""
    text = metadata["answer_cot"].split("####")[0]
    lines = [re.sub(r"^\s*(?:[•*-]|\d+\.)\s*", "", line) for line in text.splitlines()]
    lines = [re.sub(r"\s*([=×+])\s*", r" \1 ", line).replace("×", "*").strip() for line in lines]
    steps = [line for line in lines if any(c.isdigit() for c in line)]
    return "\n".join([*steps, boxed(answer)])


def check_steps(expression: str, solution: str) -> list[bool]:
    """Return whether each line of a solution of a sum is correct: the expected step with correct arithmetic.

    A correct step after a mistake counts as correct, so the first ``False`` is the first wrong step. The box is correct
    if it has the last result.
    """
    first, *rest = expression.split(" ")
    due = [f"{sign} {term}" for sign, term in zip(rest[::2], rest[1::2], strict=True)]
    verdicts, total = [], first
    *steps, last = solution.split("\n")
    for i, line in enumerate(steps):
        left, _, result = line.partition(" = ")
        verdicts.append(i < len(due) and left == f"{total} {due[i]}" and check_step(line) is True)
        total = result
    return [*verdicts, last == boxed(total) and len(steps) == len(due)]


def _legs() -> dict[str, int]:
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    return dict(ANIMALS)
