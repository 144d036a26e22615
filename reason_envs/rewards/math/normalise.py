r"""Normal spelling of answers, and verdicts that need no computer algebra system."""

import re
from fractions import Fraction
from typing import Literal

from reason_envs.resources import read_table
from reason_envs.rewards.math.notation import asks_for_number, is_computation
from reason_envs.tasks.text import NUMBER

QuickReason = Literal["equal", "string_match", "different", "unevaluated"]

_TABLE = read_table(__file__, "rewrites.yaml")
_REWRITES = [(re.compile(pattern), replacement) for pattern, replacement in _TABLE]
_POWERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12, "千": 3, "万": 4, "亿": 8}
_MAGNITUDE = re.compile(rf"(?<=\d)\$?\s*(\\text\s*\{{)?\s*({'|'.join(_POWERS)})s?(?![a-z])")
_NUMBER = re.compile(NUMBER)
_RATIO = re.compile(r"([-+]?)(?:(\d+)/(\d+)|\\frac\{([-+]?\d+)\}\{(\d+)\})")
_BASE = re.compile(r"(?<=[\d)])_(?:\{(?:\\text\{)?)?([-+]?\w+)")
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_WORD = re.compile(r"\(?[A-Za-z][A-Za-z '\-]*\)?")
_NAME = r"(?!\\(?:pi|infty)=)(?:\\angle )?\\?[A-Za-z]+'*(?:_(?:\w|\{[^{}]+\}))?(?:\(\w+\))?"
_NAMED_VALUE = re.compile(rf"(?:{_NAME}|\\overline\{{[A-Z]+\}})=(.+)")
_MAX_DIGITS = 15
"""Maximum number of digits of a decimal that floating-point graders compare exactly."""
_MAX_PLACES = 6
"""Number of decimal places to which graders round; shorter decimals stay exact."""
_MAX_LENGTH = 1000
"""Maximum length of a number in characters: Python refuses to parse very long integers."""


def normalise(answer: str) -> str:
    r"""Return the normal spelling of an answer: delimiters, currencies, spacing, fractions and ``1e3`` are unified."""
    text = _MAGNITUDE.sub(lambda found: rf"\times 10^{{{_POWERS[found[2]]}}}{found[1] or ''}", answer.strip())
    for pattern, replacement in () if _NUMBER.fullmatch(text) else _REWRITES:
        text = pattern.sub(replacement, text)
    return text.strip()


def named_value(answer: str) -> str:
    """Return the value of a normalised answer such as ``x=5``. Other answers are returned unchanged."""
    match = _NAMED_VALUE.fullmatch(answer)
    return match[1] if match else answer


def plain_number(text: str) -> Fraction | None:
    """Read an integer, a ratio of integers, or a decimal that is exact for every grader; ``None`` for other texts."""
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
    r"""Return the words of an answer such as ``\text{Friday}`` or ``\text{(A)}`` in lower case, or ``None``.

    Letters outside of ``\text{}`` are not words: ``ab`` can be a product.
    """
    match = _TEXT.fullmatch(text)
    return _bare_word(match[1]) if match and _WORD.fullmatch(match[1].strip()) else None


def quick_verdict(gold: str, answer: str) -> QuickReason | None:
    r"""Return the verdict on two normalised answers if it needs no algebra.

    Equal strings and equal plain numbers are equal, and unequal plain numbers are different. If the gold answer is in
    ``\text{}``, the answers are compared as words, because algebra would read them as products of letters. If the gold
    answer is a number, a computation without letters is ``"unevaluated"`` (see `notation`). ``None``: algebra must
    decide.
    """
    if answer in (gold, gold.replace(", ", ",")):
        return "string_match"
    gold_number, number = plain_number(gold), plain_number(answer)
    if gold_number is not None and number is not None and gold_number == number:
        return "equal"
    may_be_rounded = "." in gold + answer and ("/" in gold + answer or "frac" in gold + answer)  # 1/3 and 0.333333
    if gold_number is not None and number is not None and not may_be_rounded:
        return "different"
    bases = _BASE.findall(answer)
    if bases and bases != _BASE.findall(gold):  # algebra would ignore them
        return "different"
    if asks_for_number(gold) and is_computation(answer):
        return "unevaluated"
    if gold.isalpha() and answer.isalpha() and gold.lower() == answer.lower():
        return "string_match"
    gold_word = word(gold)
    if gold_word is not None:
        return "string_match" if _bare_word(_TEXT.sub(r"\1", answer)) == gold_word else "different"
    return None


def _bare_word(text: str) -> str:
    return " ".join(text.strip().strip("()").lower().split())
