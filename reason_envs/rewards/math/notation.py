r"""Which answers are numbers, in whatever notation, and which are computations still to be done.

Where the gold answer is a number, only a number may answer it, however equal another expression is: else copying an
arithmetic problem into the box would solve it. All texts here are normalised (see ``normalise``).
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
_RAISED = r"\^(?:\{-?[1-9]\}|-?[1-9])"  # not 0: 23-4+57-8x^0 is no number of units
# possessive: a run of letters is one word, else trying every way to cut it takes exponential time
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
    """Whether a gold answer is an integer, decimal, fraction or scientific number, perhaps in percent or with a unit.

    A gold answer that is itself a power, a root or the like leaves the form open, and degrees may be told in radians.
    """
    return _ASKED.fullmatch(gold) is not None


def is_number(answer: str) -> bool:
    r"""Whether an answer is one number, perhaps named (``x=5``), in brackets or with a unit (``18\text{ cm}^2``).

    A number is an integer, decimal (thousands commas included), fraction, mixed number, scientific number, percentage,
    one power or one root.
    """
    value = answer.rpartition("=")[2].strip()
    while match := _WRAPPED.fullmatch(value):
        value = next(inner for inner in match.groups() if inner is not None).strip()
    return _NUMBER_WITH_UNIT.fullmatch(value) is not None


def without_words(number: str) -> str:
    """Return a number without the words that follow it: ``18 dollars`` is ``18`` (algebra would read letters)."""
    return _WORDS.sub("", number)


def is_computation(answer: str) -> bool:
    r"""Whether an answer is arithmetic with plain numbers still to be done: ``3+4``, ``x=2\cdot(5-1)``."""
    value = _NAMED_UNIT.sub("", answer.rpartition("=")[2]).strip()
    return not is_number(answer) and _ARITHMETIC.fullmatch(value) is not None and _OPERATION.search(value) is not None
