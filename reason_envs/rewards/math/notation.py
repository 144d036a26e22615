r"""Recognition of answers that are numbers, in any notation, and of answers that are unevaluated computations.

If the gold answer is a number, only a number is accepted, even if another expression has the same value. Otherwise a
copy of an arithmetic problem in the box would solve it. All texts here are normalised (see `normalise`).
"""

from __future__ import annotations

import re

from reason_envs.tasks.text import NUMBER

_UNSIGNED = NUMBER.removeprefix("[-+]?")
_SIGN = r"(?:[-+*/×÷·]|\\(?:times|cdot|div)(?![a-zA-Z]))"

_FRACTION = (
    rf"(?:[-+]?\d+ \d+/\d+|[-+]?{_UNSIGNED}/{NUMBER}"
    rf"|[-+]?\d*\\frac(?:\{{{NUMBER}\}}\{{{NUMBER}\}}|\{{{NUMBER}\}}\d|\d\{{{NUMBER}\}}|\d\d))"
)
_SCIENTIFIC = rf"(?:{NUMBER} ?(?:\\times|\\cdot|[*×·]) ?|[-+]?)10\^(?:{NUMBER}|\{{{NUMBER}\}})"
_REPEATING = r"[-+]?\d*\.\d*\\overline\{\d+\}"
_RATIONAL = rf"(?:{_SCIENTIFIC}|{_FRACTION}|{_REPEATING}|{NUMBER})"
_SIMPLE = rf"(?:{_FRACTION}|{NUMBER})"
_POWER = rf"(?:{NUMBER}|[-+]?\({_SIMPLE}\))\^(?:\d|\{{{_SIMPLE}\}})"
_ROOT = rf"[-+]?\\sqrt(?:\[\d+\])?(?:\{{{_SIMPLE}\}}|\d)"

_TEXT = r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)"
_RAISED = r"\^(?:\{-?[1-9]\}|-?[1-9])"  # not 0: 23-4+57-8x^0 is not a number with a unit
# possessive quantifiers: trying every way to split a run of letters would take exponential time
_WORD = rf"(?:{_TEXT}\{{(?:[^{{}}\d^]|\^[1-9])*+\}}|[^\W\d_]++\.?)(?:{_RAISED})?"
_MARK = r"(?:\\?%|\^(?:\\circ|\{\\circ\}|\\degree)|\\degree|°|[€£¥])"
_UNIT = rf"(?: ?{_MARK})?(?:(?: ?/ ?| ?\\cdot ?|[ ~])?{_WORD})*+"

_NUMBER_WITH_UNIT = re.compile(rf"[€£¥]?(?:{_RATIONAL}|{_POWER}|{_ROOT}){_UNIT}")
_ASKED = re.compile(rf"{_RATIONAL}(?:\\?%|{_TEXT}\{{[^{{}}\d]*\}})?")
_WRAPPED = re.compile(rf"(?:{_TEXT})?\{{(?P<braces>.*)\}}|\((?P<round>.*)\)|\\\{{(?P<set>.*)\\\}}|\[(?P<square>.*)\]")
_NAMED_UNIT = re.compile(rf"(?<=[\d)}}\]|]) ?{_WORD}$")
_WORDS = re.compile(r"(?: (?!percent|degree)[^\W\d_]{3,}\.?)+$")
_ARITHMETIC = re.compile(rf"(?:[\d.,(){{}}\[\]|^ ]|{_SIGN}|\\(?:frac|sqrt))+")
_OPERATION = re.compile(rf"[\d)}}\]|] ?{_SIGN} ?[-+]?(?:[\d.({{\[|]|\\(?:frac|sqrt))")


def asks_for_number(gold: str) -> bool:
    """Return whether a gold answer is an integer, decimal, fraction or scientific number, maybe with a unit.

    If the gold answer is a power, a root or in degrees, answers of other forms are accepted.
    """
    return _ASKED.fullmatch(gold) is not None


def is_number(answer: str) -> bool:
    r"""Return whether an answer is one number, also with a name (``x=5``), brackets or a unit (``18\text{ cm}^2``).

    A number is an integer, a decimal (also with thousands separators), a fraction, a mixed number, a scientific number,
    a percentage, a power or a root.
    """
    value = answer.rpartition("=")[2].strip()
    while match := _WRAPPED.fullmatch(value):
        value = next(inner for inner in match.groups() if inner is not None).strip()
    return _NUMBER_WITH_UNIT.fullmatch(value) is not None


def without_words(number: str) -> str:
    """Remove the words after a number, which algebra would read as letters: ``18 dollars`` becomes ``18``."""
    return _WORDS.sub("", number)


def is_computation(answer: str) -> bool:
    r"""Return whether an answer is an unevaluated computation with plain numbers: ``3+4``, ``x=2\cdot(5-1)``."""
    value = _NAMED_UNIT.sub("", answer.rpartition("=")[2]).strip()
    return not is_number(answer) and _ARITHMETIC.fullmatch(value) is not None and _OPERATION.search(value) is not None
