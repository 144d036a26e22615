r"""Equal spellings of an answer, and what can be decided about two answers without a computer algebra system."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Literal

from reason_envs.rewards.math.notation import asks_for_number, is_computation
from reason_envs.tasks.text import NUMBER

QuickReason = Literal["equal", "string_match", "different", "unevaluated"]

_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\\$", ""),  # a currency sign
        (r"^\$+|\$+$|^\\[(\[]|\\[)\]]$", ""),  # mathematics delimiters around the whole answer
        (r"[\u2212\u2013]", "-"),
        (r"\\(?:left|right)(?![a-zA-Z])", ""),
        (r"\\[dt]frac(?![a-zA-Z])", r"\\frac"),
        (r"(?<=\d)(?:\\[,!]|\{,\}|,\\!)\s*(?=\d{3})", ","),  # thousands separators
        (r"\\[!,;: ]", " "),
        (r"(?<=\d)[eE]([-+]?\d+)\b", r" \\times 10^{\1}"),  # scientific notation, not Euler's number
        (r"(?<=\d)\.(?![\d\\])", ""),
        (r"\s+", " "),
        (r"(?<![a-zA-Z0-9]) | (?![a-zA-Z0-9])", ""),
    )
)
_NUMBER = re.compile(NUMBER)
_RATIO = re.compile(r"([-+]?)(?:(\d+)/(\d+)|\\frac\{([-+]?\d+)\}\{(\d+)\})")
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_WORD = re.compile(r"\(?[A-Za-z][A-Za-z '\-]*\)?")
_NAMED_VALUE = re.compile(r"\\?[A-Za-z]+(?:_(?:\w|\{\w+\}))?(?:\([a-z]\))?=([^=]+)")
_MAX_DIGITS = 15
"""Decimals up to this many digits are compared exactly by floating-point graders too."""
_MAX_PLACES = 6
"""Graders round to this many decimal places, which leaves shorter decimals as they are."""
_MAX_LENGTH = 1000
"""Longest number read here, in characters: Python refuses to read very long integers."""


def normalise(answer: str) -> str:
    r"""Rewrite spellings that mean the same (delimiters, spacing, ``\dfrac``, ``1e3``); the meaning stays."""
    text = answer.strip()
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text.strip()


def named_value(answer: str) -> str:
    """Return the value in a normalised answer such as ``x=5``; any other answer is its own value."""
    match = _NAMED_VALUE.fullmatch(answer)
    return match[1] if match else answer


def plain_number(text: str) -> Fraction | None:
    """Read an integer, a ratio of integers, or a decimal short enough to be exact for every grader.

    Returns:
        The value, or ``None`` for anything else.
    """
    if len(text) > _MAX_LENGTH:
        return None
    if ratio := _RATIO.fullmatch(text):
        numerator, denominator = int(ratio[2] or ratio[4]), int(ratio[3] or ratio[5])
        return Fraction(-numerator if ratio[1] == "-" else numerator, denominator) if denominator else None
    if not _NUMBER.fullmatch(text):
        return None
    bare = text.replace(",", "")
    whole, _, places = bare.lstrip("+-").partition(".")
    if places and (len(places) > _MAX_PLACES or len(whole + places) > _MAX_DIGITS):
        return None
    return Fraction(bare)


def word(text: str) -> str | None:
    r"""Return the words of a purely verbal answer such as ``\text{Friday}`` or ``\text{(A)}``, in lower case.

    Bare letters are no words: ``ab`` may be a product.
    """
    match = _TEXT.fullmatch(text)
    return _bare_word(match[1]) if match and _WORD.fullmatch(match[1].strip()) else None


def quick_verdict(gold: str, answer: str) -> QuickReason | None:
    r"""Decide about two normalised answers where that takes no algebra.

    Equal strings and equal plain numbers are equal, unequal plain numbers differ, and an answer to a gold answer in
    ``\text{}`` is compared as words (algebra would take them for products of letters, in any order).
    Where the gold answer is a number, a computation is no answer (see ``notation``); one without letters is told here.

    Returns:
        The reason, or ``None`` where algebra has to decide.
    """
    if gold == answer:
        return "string_match"
    gold_number, number = plain_number(gold), plain_number(answer)
    if gold_number is not None and number is not None and gold_number == number:
        return "equal"
    if gold_number is not None and number is not None and not _is_rounded(gold, answer):
        return "different"
    if asks_for_number(gold) and is_computation(answer):
        return "unevaluated"
    if gold.isalpha() and answer.isalpha() and gold.lower() == answer.lower():
        return "string_match"
    gold_word = word(gold)
    if gold_word is not None:
        return "string_match" if _bare_word(_TEXT.sub(r"\1", answer)) == gold_word else "different"
    return None


def _is_rounded(one: str, other: str) -> bool:
    """Whether a ratio meets a decimal, which may stand for it: 1/3 and 0.333333."""
    return "." in one + other and ("/" in one + other or "frac" in one + other)


def _bare_word(text: str) -> str:
    return " ".join(text.strip().strip("()").lower().split())
