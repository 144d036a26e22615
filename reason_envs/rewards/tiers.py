r"""Rewards of a workflow's answer in five tiers, 0, 0.2, 0.4, 0.7 and 1, for mathematics, questions and code.

| tier | mathematics | questions | code |
|---|---|---|---|
| 1 | equal, or relative error below 1e-4 | F1 = 1 | every test passes |
| 0.7 | relative error below 5 % | F1 >= 0.75 | >= 75 % of the tests |
| 0.4 | relative error below 50 % | F1 >= 0.5 | >= 50 % |
| 0.2 | a number, and an operator gave one within 5 % | F1 >= 0.4 | >= 25 % |

An answer counts only if a grounded operator gave it (`OperatorOutput`): one whose input had the problem or the output
of another grounded operator. A program that returns its own number, word or code earns 0. The tiers below 1 of
mathematics require more: the number must be the final answer of an operator, and the input that the program added for
that operator must not contain it. So a program that prints a digit, which is often within 50 %, earns nothing. A copy
of the passage has a low F1. The size of a program does not matter.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from reason_envs.rewards.math.extract import extract_answer, last_number
from reason_envs.rewards.math.grade import grade_math_async
from reason_envs.rewards.math.normalise import normalise, plain_number
from reason_envs.rewards.qa import f1, normalise_words
from reason_envs.tasks.text import NUMBER

TIERS = (0.0, 0.2, 0.4, 0.7, 1.0)
"""Possible rewards."""
EQUAL, CLOSE, NEAR = 1e-4, 0.05, 0.5
"""Maximum relative error of a number in the tiers 1, 0.7 and 0.4."""
EXACT = 1e-6
"""Maximum relative error of a number that counts as correct."""
WORDS = ((1.0, 1.0), (0.75, 0.7), (0.5, 0.4), (0.4, 0.2))
"""Minimum F1 of each tier. A copy of a short passage has a lower F1."""
TESTS = ((1.0, 1.0), (0.75, 0.7), (0.5, 0.4), (0.25, 0.2))
"""Minimum share of passed tests of each tier."""
_NUMBERS = re.compile(rf"(?<![\w.]){NUMBER}")
MAXIMUM_CHARS = 200_000
"""Maximum number of characters that are searched in one output."""


@dataclass(frozen=True)
class OperatorOutput:
    """Output of a grounded operator: its input had the problem or the output of another grounded operator."""

    fields: tuple[str, ...]
    """Output fields of the operator as text."""
    added_input: str = ""
    """Input that the program added: without the problem and without the outputs of grounded operators."""


@dataclass(frozen=True)
class TierGrade:
    """Grade of an answer before caps."""

    tier: float
    """Tier that the answer earns, one of ``TIERS``."""
    correct: bool
    """Whether the answer is correct."""
    extracted: str | None
    """Answer that was graded; ``None`` if there is none."""
    score: float
    """F1, share of passed tests, or 1 minus the relative error, between 0 and 1."""
    reason: str
    """Reason of the grade: ``right``, ``partial``, ``wrong``, ``no_answer``, ``unsupported`` (no operator gave the
    answer) or ``lost`` (an operator gave a better answer)."""


NO_ANSWER = TierGrade(0.0, False, None, 0.0, "no_answer")


async def math_tier(answer: str, gold: str, grounded: Sequence[OperatorOutput]) -> TierGrade:
    """Grade a number or expression: the last box of the answer, or the text after ``####``, or the last number."""
    extracted = final_answer(answer)
    if extracted is None:
        return NO_ANSWER
    if not any(_mentions(text, extracted) for output in grounded for text in output.fields):
        return TierGrade(0.0, False, extracted, 0.0, "unsupported")
    error = relative_error(extracted, gold)
    right = error < EXACT or (await grade_math_async(rf"\boxed{{{extracted}}}", gold)).correct
    if right or error < EQUAL:
        return TierGrade(1.0, right, extracted, 1.0, "right")
    score = max(0.0, 1 - error)
    own = any(_finds(output, extracted) for output in grounded)
    if error < NEAR and own:
        return TierGrade(0.7 if error < CLOSE else 0.4, False, extracted, score, "partial")
    found = [final_answer(text) for output in grounded for text in output.fields]
    if number(extracted) is not None and any(f is not None and relative_error(f, gold) < CLOSE for f in found):
        return TierGrade(0.2, False, extracted, score, "lost")
    return TierGrade(0.0, False, extracted, score, "wrong")


def qa_tier(answer: str, golds: Sequence[str], grounded: Sequence[OperatorOutput]) -> TierGrade:
    """Grade an answer in words by its F1."""
    words = normalise_words(answer)
    if not words:
        return NO_ANSWER
    wanted = f" {' '.join(words)} "
    if not any(wanted in f" {' '.join(normalise_words(text))} " for output in grounded for text in output.fields):
        return TierGrade(0.0, False, answer, 0.0, "unsupported")
    return _by_share(answer, f1(answer, golds), WORDS)


def code_tier(code: str, share: float, grounded: Sequence[OperatorOutput]) -> TierGrade:
    """Grade a program by its share of passed tests."""
    if not code.strip():
        return NO_ANSWER
    if not any(_squeeze(code) in _squeeze(text) for output in grounded for text in output.fields):
        return TierGrade(0.0, False, code, share, "unsupported")
    return _by_share(code, share, TESTS)


def capped(tier: float, caps: Mapping[str, float]) -> tuple[float, str | None]:
    """Apply the lowest cap. Return the tier, and the name of the cap if it lowered the tier."""
    name = min(caps, key=lambda cap: caps[cap], default=None)
    if name is None or caps[name] >= tier:
        return tier, None
    return caps[name], name


def final_answer(text: str) -> str | None:
    """Return the final answer of a text: in a box, after ``####``, or its last number."""
    return extract_answer(text, ("####", "last_number"))


def number(text: str) -> Fraction | None:
    """Read a plain number or ratio, also with a unit or a currency sign, or return ``None``."""
    exact = plain_number(normalise(text))
    if exact is None and (found := last_number(text)) is not None and len(_NUMBERS.findall(text)) == 1:
        exact = Fraction(found.replace(",", "")) if len(found) < 100 else None
    return exact


def relative_error(answer: str, gold: str) -> float:
    """Return ``|answer - gold| / |gold|``; infinite if one is not a number, or if only ``gold`` is 0."""
    value, wanted = number(answer), plain_number(normalise(gold))
    if value is None or wanted is None:
        return math.inf
    if value == wanted:
        return 0.0
    error = abs(value - wanted) / abs(wanted) if wanted else None
    return math.inf if error is None or error > 1e300 else float(error)  # a larger fraction does not fit a float


def _by_share(answer: str, share: float, steps: Sequence[tuple[float, float]]) -> TierGrade:
    tier = next((tier for minimum, tier in steps if share >= minimum), 0.0)
    return TierGrade(tier, tier == 1, answer, share, "right" if tier == 1 else "partial" if tier else "wrong")


def _mentions(text: str, extracted: str) -> bool:
    """Return whether a text contains an answer: the same number, or the same characters."""
    text, value = text[:MAXIMUM_CHARS], number(extracted)
    if value is not None and any(_equal(found, value) for found in _NUMBERS.findall(text)):
        return True
    if value is None and _squeeze(extracted) in _squeeze(text):
        return True
    return _squeeze(final_answer(text) or "") == _squeeze(extracted)


def _finds(output: OperatorOutput, extracted: str) -> bool:
    """Return whether a number is the final answer of an operator, without being in the added input."""
    value = number(extracted)
    if value is None or any(_equal(found, value) for found in _NUMBERS.findall(output.added_input)):
        return False
    finals = (final_answer(text) for text in output.fields)
    return any(final is not None and number(final) == value for final in finals)


def _equal(found: str, value: Fraction) -> bool:
    return len(found) < 100 and Fraction(found.replace(",", "")) == value


def _squeeze(text: str) -> str:
    return "".join(text.split())
