r"""Five tiers, 0, 0.2, 0.4, 0.7 and 1, for answers to mathematics, questions and programming that a workflow returns.

| tier | mathematics | questions | code |
|---|---|---|---|
| 1 | equal, or relative error below 1e-4 | F1 = 1 | every test passes |
| 0.7 | relative error below 5 % | F1 >= 0.75 | >= 75 % of the tests |
| 0.4 | relative error below 50 % | F1 >= 0.5 | >= 50 % |
| 0.2 | a number, and an operator had found one within 5 % | F1 >= 0.4 | >= 25 % |

An answer counts only where an operator gave it: one that was shown the problem, or what such an operator had said
(`Witness`). A program that prints a number, a word or code of its own earns 0. The tiers below 1 of mathematics ask
more: the number must be an operator's final answer, and must not stand in what the program told that operator. So
printing a digit, which the lowest of such tiers often pays, earns nothing. Copying the passage fails by F1, and the
size of a program is nowhere looked at.
"""

from __future__ import annotations

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
"""What an answer can earn."""
EQUAL, CLOSE, NEAR = 1e-4, 0.05, 0.5
"""Relative errors below which a number earns 1, 0.7, 0.4."""
EXACT = 1e-6
"""Relative error below which it counts as correct."""
WORDS = ((1.0, 1.0), (0.75, 0.7), (0.5, 0.4), (0.4, 0.2))
"""Least F1 and tier; a copy of even a short passage stays below."""
TESTS = ((1.0, 1.0), (0.75, 0.7), (0.5, 0.4), (0.25, 0.2))
"""Least share of the tests and tier."""
_NUMBERS = re.compile(rf"(?<![\w.]){NUMBER}")
MOST_CHARS = 200_000
"""Of what one operator said, as far as it is searched."""


@dataclass(frozen=True)
class Witness:
    """An operator that was shown the problem, or what another witness had said."""

    said: tuple[str, ...]
    """Its output fields as text."""
    told: str = ""
    """What the program gave it, without the problem and without what other witnesses had said."""


@dataclass(frozen=True)
class TierGrade:
    """What an answer earns before any cap."""

    tier: float
    """One of ``TIERS``."""
    correct: bool
    """Whether it is right."""
    extracted: str | None
    """The answer that was graded."""
    score: float
    """F1, share of the tests, or 1 minus the relative error (0 at the least)."""
    reason: str
    """``right``, ``partial``, ``wrong``, ``no_answer``, ``unsupported`` (no operator gave it), ``lost`` (an operator
    had found it)."""


NO_ANSWER = TierGrade(0.0, False, None, 0.0, "no_answer")


async def math_tier(answer: str, gold: str, witnesses: Sequence[Witness]) -> TierGrade:
    """Grade a number or expression: the last box of the answer, else what follows ``####``, else its last number."""
    extracted = final_answer(answer)
    if extracted is None:
        return NO_ANSWER
    if not any(_mentions(text, extracted) for witness in witnesses for text in witness.said):
        return TierGrade(0.0, False, extracted, 0.0, "unsupported")
    error = relative_error(extracted, gold)
    right = error < EXACT or (await grade_math_async(rf"\boxed{{{extracted}}}", gold)).correct
    if right or error < EQUAL:
        return TierGrade(1.0, right, extracted, 1.0, "right")
    score = max(0.0, 1 - error)
    own = any(_finds(witness, extracted) for witness in witnesses)
    if error < NEAR and own:
        return TierGrade(0.7 if error < CLOSE else 0.4, False, extracted, score, "partial")
    found = [final_answer(text) for witness in witnesses for text in witness.said]
    if number(extracted) is not None and any(f is not None and relative_error(f, gold) < CLOSE for f in found):
        return TierGrade(0.2, False, extracted, score, "lost")
    return TierGrade(0.0, False, extracted, score, "wrong")


def qa_tier(answer: str, golds: Sequence[str], witnesses: Sequence[Witness]) -> TierGrade:
    """Grade an answer in words by F1."""
    words = normalise_words(answer)
    if not words:
        return NO_ANSWER
    wanted = f" {' '.join(words)} "
    if not any(wanted in f" {' '.join(normalise_words(text))} " for witness in witnesses for text in witness.said):
        return TierGrade(0.0, False, answer, 0.0, "unsupported")
    return _by_share(answer, f1(answer, golds), WORDS)


def code_tier(code: str, share: float, witnesses: Sequence[Witness]) -> TierGrade:
    """Grade a program by its share of passed tests."""
    if not code.strip():
        return NO_ANSWER
    if not any(_squeeze(code) in _squeeze(text) for witness in witnesses for text in witness.said):
        return TierGrade(0.0, False, code, share, "unsupported")
    return _by_share(code, share, TESTS)


def capped(tier: float, caps: Mapping[str, float]) -> tuple[float, str | None]:
    """Apply the lowest cap; return the tier, and the name of the cap where it changed something."""
    name = min(caps, key=lambda cap: caps[cap], default=None)
    if name is None or caps[name] >= tier:
        return tier, None
    return caps[name], name


def final_answer(text: str) -> str | None:
    """Return the answer that a text ends in: boxed, after ``####``, or its last number."""
    return extract_answer(text, ("####", "last_number"))


def number(text: str) -> Fraction | None:
    """Read a plain number or ratio, with the decoration that answers have (units, signs of currency)."""
    exact = plain_number(normalise(text))
    if exact is None and (found := last_number(text)) is not None and len(_NUMBERS.findall(text)) == 1:
        exact = Fraction(found.replace(",", "")) if len(found) < 100 else None
    return exact


def relative_error(answer: str, gold: str) -> float:
    """Return ``|answer - gold| / |gold|``; infinite where one is no number, or gold is 0 and the answer is not."""
    value, wanted = number(answer), plain_number(normalise(gold))
    if value is None or wanted is None:
        return math.inf
    if value == wanted:
        return 0.0
    return float(abs(value - wanted) / abs(wanted)) if wanted else math.inf


def _by_share(answer: str, share: float, steps: Sequence[tuple[float, float]]) -> TierGrade:
    tier = next((tier for least, tier in steps if share >= least), 0.0)
    reason = "right" if tier == 1 else "partial" if tier else "wrong"
    return TierGrade(tier, tier == 1, answer, share, reason)


def _mentions(text: str, extracted: str) -> bool:
    """Whether a text has an answer in it: the same number, or the same characters."""
    text, value = text[:MOST_CHARS], number(extracted)
    if value is not None and any(_equal(found, value) for found in _NUMBERS.findall(text)):
        return True
    if value is None and _squeeze(extracted) in _squeeze(text):
        return True
    return _squeeze(final_answer(text) or "") == _squeeze(extracted)


def _finds(witness: Witness, extracted: str) -> bool:
    """Whether a number is a witness's own final answer, which it was not told."""
    value = number(extracted)
    if value is None or any(_equal(found, value) for found in _NUMBERS.findall(witness.told)):
        return False
    finals = (final_answer(text) for text in witness.said)
    return any(final is not None and number(final) == value for final in finals)


def _equal(found: str, value: Fraction) -> bool:
    return len(found) < 100 and Fraction(found.replace(",", "")) == value


def _squeeze(text: str) -> str:
    return "".join(text.split())
