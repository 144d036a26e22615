r"""Recognition of answers that are numbers, in any notation, and of answers that are unevaluated computations.

If the gold answer is a number, only a number is accepted, even if another expression has the same value. Otherwise a
copy of an arithmetic problem in the box would solve it. All texts here are normalised (see `normalise`).
"""

import re

from reason_envs.tasks.text import NUMBER

_UNSIGNED = NUMBER.removeprefix("[-+]?")
_SIGN = r"(?:[-+*/×÷·]|\\(?:times|cdot|div)(?![a-zA-Z]))"
_FRACTION = rf"(?:[-+]?\d+ \d+/\d+|[-+]?{_UNSIGNED}/{NUMBER}|[-+]?\d*\\frac\{{{NUMBER}\}}\{{{NUMBER}\}})"
_SCIENTIFIC = rf"(?:{NUMBER} ?(?:\\times|\\cdot|[*×·]) ?|[-+]?)10\^(?:{NUMBER}|\{{{NUMBER}\}})"
_REPEATING = r"[-+]?\d*\.\d*\\overline\{\d+\}"
_RATIONAL = rf"(?:{_SCIENTIFIC}|{_FRACTION}|{_REPEATING}|{NUMBER})"
_SIMPLE = rf"(?:{_FRACTION}|{NUMBER})"
_POWER = rf"(?:{NUMBER}|[-+]?\({_SIMPLE}\))\^(?:\d|\{{{_SIMPLE}\}})"
_ROOT = rf"[-+]?\\sqrt(?:\[\d+\])?\{{{_SIMPLE}\}}"

TEXT = r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mbox)"
_RAISED = r"(?:\^(?:\{-?[1-9]\}|-?[1-9])|[²³])?"  # not 0: 23-4+57-8x^0 is not a number with a unit
_NO_UNITS = (
    "or|and|not|but|maybe|either|if|also|yes|no|none|true|false|even|odd|is|one|two|three|five|six|seven|eight|ten"
)
_CAPITALS = "[JNWVKL]|[kMG]?(?:Hz|Pa|J|W|N|V|Wh|B)|mL|Joules?|Newtons?|Watts?|Volts?|Kelvin|USD|EUR"
_LETTERS = r"\u00c0-\u00d6\u00d8-\u00f6\u0370-\u1fff\u3040-\u9fff\uac00-\ud7a3"  # not those of products
# possessive quantifiers: trying every way to split a run of letters would take exponential time
_LETTERED = rf"(?:[a-z]{{2,}}+|[mgshl](?![a-z])|(?:{_CAPITALS})(?![A-Za-z])|[{_LETTERS}]++)"
_WORD = rf"(?:(?!(?:{_NO_UNITS})(?![a-z])){_LETTERED}\.?{_RAISED})"
_BETWEEN = r"(?: ?/ ?| ?\\cdot ?|[ ~·'-]|(?<=\.))"
_SYMBOL = r"(?:m(?=[²³])|[cmkdn]m|[km]g|m[lL]|hrs?|min|sec|ft|in|lbs?|oz|mph|km/h|am|pm|th|cc)(?![a-zA-Z])" + _RAISED
_MARK = r"(?:\\?%|\^(?:\\circ|\{\\circ\}|\\degree)|\\degree|°)"
_MORE = rf"(?:{_BETWEEN}{_WORD})*+"
_BARE_UNIT = rf"(?: (?=[^ ]{{2}}|[mgshLlJNWVK]$){_WORD}|{_SYMBOL}|(?=[a-z]{{3}}|[{_LETTERS}]){_WORD}){_MORE}"
_TEXT_UNIT = rf"{TEXT}\{{[ ~]*{_WORD}(?:{_BETWEEN}{_WORD})*+[ ~.]*\}}{_RAISED}"
_UNIT = rf"(?:(?:{_BETWEEN})?{_TEXT_UNIT}|{_BARE_UNIT})++"
_NUMBER_WITH_UNIT = re.compile(rf"((?:{_RATIONAL}|{_POWER}|{_ROOT})(?: ?{_MARK})?)(?:{_UNIT})?")
_ASKED = re.compile(rf"(?!.* [A-Za-z]$){_RATIONAL}(?:\\?%)?(?:{_UNIT})?")
_WRAPPED = re.compile(rf"(?:{TEXT})?\{{(?P<braces>.*)\}}|\((?P<round>.*)\)|\\\{{(?P<set>.*)\\\}}|\[(?P<square>.*)\]")
_TRAILING_UNIT = re.compile(rf"(?<=[\w)}}\]|])(?: ?{_TEXT_UNIT}| (?=[^ ]{{3}}){_WORD})++$")
_ARITHMETIC = re.compile(rf"(?:[\d.,(){{}}\[\]|^ ]|{_SIGN}|\\(?:frac|sqrt))+")
_OPERATION = re.compile(rf"[\d)}}\]|] ?{_SIGN} ?[-+]?(?:[\d.({{\[|]|\\(?:frac|sqrt))")


def asks_for_number(gold: str) -> bool:
    """Return whether a gold answer is an integer, decimal, fraction or scientific number, maybe with a unit.

    If the gold answer is a power, a root or in degrees, answers of other forms are accepted.
    """
    return _ASKED.fullmatch(gold) is not None


def read_number(answer: str) -> str | None:
    r"""Return the number in an answer without its unit, name and brackets: ``7`` for ``x=7\text{ cm}^2``.

    A number is an integer, a decimal (also with thousands separators), a fraction, a mixed number, a scientific number,
    a percentage, a power or a root. Signs for percent and degrees belong to it.
    """
    value = re.split(r"=|\\approx", answer)[-1].strip()
    while match := _WRAPPED.fullmatch(value):
        value = next(inner for inner in match.groups() if inner is not None).strip()
    found = _NUMBER_WITH_UNIT.fullmatch(value)
    return found[1] if found else None


def without_unit(answer: str) -> str:
    r"""Remove the unit after an expression, which algebra would read as letters: ``2\pi\text{ cm}`` is ``2\pi``."""
    return _TRAILING_UNIT.sub("", answer)


def is_computation(answer: str) -> bool:
    r"""Return whether an answer is an unevaluated computation with plain numbers: ``3+4``, ``x=2\cdot(5-1)``."""
    value = without_unit(answer.rpartition("=")[2]).strip()
    is_arithmetic = _ARITHMETIC.fullmatch(value) is not None and _OPERATION.search(value) is not None
    return is_arithmetic and read_number(answer) is None
