r"""Values of the numbers and arithmetic in a text: ``42``, ``forty-two``, ``6*7``, ``\frac{84}{2}``.

Nothing is executed. A small parser reads tokens and computes with exact fractions, and with floating-point numbers for
roots and pi. Its time is proportional to the length of the text.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from reason_envs.resources import read_table
from reason_envs.rewards.leak.spelled_numbers import SPELLED, spelled_value
from reason_envs.tasks.text import NUMBER

Value = Fraction | float
MAX_DEPTH = 20
"""Maximum depth of nested expressions."""
MAX_VALUE = 10**18
"""Maximum value. Larger ones are left out: answers are smaller, and powers could grow without limit."""
MAX_DENOMINATOR = 10**100
"""Maximum denominator of a value, for the same reason."""
MAX_EXPONENT = 64
"""Maximum exponent of powers that are computed."""
MAX_DIGITS = 40
"""Maximum length of a number in characters."""

_SPELLINGS = read_table(__file__, "operators.yaml")
_OPERATORS = {spelling: operator for operator, spellings in _SPELLINGS.items() for spelling in spellings}
_TOKEN = re.compile(
    rf"(?P<number>(?<![\w.])(?:{NUMBER.removeprefix('[-+]?')})(?!(?:st|nd|rd|th)\b))"
    rf"|(?P<spelled>(?<![\w-])(?a:{SPELLED})(?![\w-]))"  # (?a: not the long s
    r"|(?P<operator>(?a:\\(?:times|cdot|div|[dt]?frac|sqrt|pi)(?![a-zA-Z])"
    r"|(?<![a-zA-Z])(?:plus|minus|times|multiplied by|divided by|sqrt)(?![a-zA-Z])"
    r"|(?<=[\d)}])\s?x\s?(?=[\d({])|\*\*|[-+*/^(){}\u2212\u2013×·∗⋅÷√π]))"
    r"|(?P<silent>\\(?:left|right|boxed|fbox|text|mathrm|[!,;: $()\[\]])|[\s$%])"
    r"|(?P<gap>.)",
    re.IGNORECASE | re.DOTALL,
)
_THOUSANDS = re.compile(r"(?<=\d)(?:\\,|\{,\}|,\\!) *(?=\d{3})")
_DIGIT_X = re.compile(r"(?<=\d)(?=x\d)|(?<=\dx)(?=\d)", re.IGNORECASE)


@dataclass(frozen=True)
class Token:
    """A number or an operator."""

    kind: str
    """Kind of the token: ``number``, or the sign of the operator."""
    text: str
    """Normal spelling of the token: ``42`` for ``forty-two``."""
    value: Fraction = Fraction(0)
    """Value of a number; 0 for operators."""


@dataclass(frozen=True)
class Expression:
    """A part of a text that has a value."""

    run: list[Token]
    """Tokens among which the expression stands."""
    start: int
    """Index of the first token of the expression in ``run``."""
    end: int
    """Index after the last token of the expression in ``run``."""
    value: Value
    """Value of the expression."""
    is_number: bool
    """Whether the expression is one number without an operation."""

    @property
    def text(self) -> str:
        """Tokens of the expression, joined by spaces."""
        return " ".join(token.text for token in self.run[self.start : self.end])


def runs(text: str) -> Iterator[list[Token]]:
    """Yield each sequence of numbers and operators between the words of a text."""
    run: list[Token] = []
    for match in _TOKEN.finditer(_DIGIT_X.sub(" ", _THOUSANDS.sub(",", text))):
        kind, found = match.lastgroup, match[0]
        if kind == "gap" or (kind == "number" and len(found) > MAX_DIGITS):
            if run:
                yield run
            run = []
        elif kind == "number":
            run.append(_number(Fraction(found.replace(",", ""))))
        elif kind == "spelled":
            run.append(_number(Fraction(spelled_value(found))))
        elif kind == "operator":
            sign = _OPERATORS[found.strip().lower()]
            run.append(Token(sign, sign))
    if run:
        yield run


def expressions(text: str) -> Iterator[Expression]:
    """Yield every number of a text, and every part of its arithmetic that has a value."""
    for run in runs(text):
        start = 0
        while start < len(run):
            parser = _Parser(run, start)
            parser.sum(0)
            yield from parser.found
            start = max(parser.position, start + 1)


def evaluate(text: str) -> Value | None:
    """Return the value of a text that consists of one expression, or ``None`` for all other texts."""
    if re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", text)) or "=" in text:
        return None
    found = list(runs(text))
    if len(found) != 1:
        return None
    parser = _Parser(found[0], 0)
    value = parser.sum(0)
    return value if parser.position == len(found[0]) else None


def equal(one: Value, other: Value) -> bool:
    """Return whether two values are equal. Floating-point values may differ by rounding."""
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    return math.isclose(one, other, rel_tol=1e-9)


class _Parser:
    """Reads the longest expression at a position and collects every part of it that has a value."""

    def __init__(self, tokens: list[Token], position: int) -> None:
        self.tokens = tokens
        self.position = position
        self.found: list[Expression] = []

    def sum(self, depth: int) -> Value | None:
        """Read ``product (+|- product)*``."""
        start, value = self.position, self._product(depth)
        while value is not None and self._next() in ("+", "-"):
            here, sign = self.position, self._take()
            right = self._product(depth)
            if right is None:
                self.position = here
                break
            value = self._keep(start, value + right if sign == "+" else value - right)
        return value

    def _product(self, depth: int) -> Value | None:
        """Read ``power ((*|/) power)*``. A root, pi or a bracket after a number multiplies it."""
        start, value = self.position, self._power(depth)
        while value is not None and self._next() in ("*", "/", "(", "frac", "sqrt", "pi"):
            here = self.position
            divides = self._next() == "/"
            if self._next() in ("*", "/"):
                self._take()
            right = self._power(depth)
            if right is None or (divides and right == 0):
                self.position = here
                break
            value = self._keep(start, value / right if divides else value * right)
        return value

    def _power(self, depth: int) -> Value | None:
        start, value = self.position, self._atom(depth)
        if value is not None and self._next() == "^":
            here = self.position
            self._take()
            exponent = self._atom(depth)
            if exponent is None:
                self.position = here
                return value
            value = self._keep(start, _power(value, exponent))
        return value

    def _atom(self, depth: int) -> Value | None:
        start, kind = self.position, self._next()
        if depth > MAX_DEPTH or kind is None:
            return None
        if kind == "number":
            self._take()
            return self._keep(start, self.tokens[start].value, is_number=True)
        if kind in ("+", "-"):
            return self._signed(depth)
        if kind == "pi":
            self._take()
            return self._keep(start, math.pi)
        if kind == "(":
            return self._bracket(depth)
        if kind in ("sqrt", "frac"):
            return self._command(kind, depth)
        return None

    def _signed(self, depth: int) -> Value | None:
        """Read a sign and its operand. The operand without the sign is not a part."""
        start, parts = self.position, len(self.found)
        sign = self._take()
        value = self._atom(depth + 1)
        if value is None:
            self.position = start
            return None
        is_number = self.position == start + 2
        del self.found[parts:]
        return self._keep(start, -value if sign == "-" else value, is_number=is_number)

    def _bracket(self, depth: int) -> Value | None:
        start = self.position
        self._take()
        value = self.sum(depth + 1)
        if value is None or self._next() != ")":
            self.position = start
            return None
        self._take()
        return value

    def _command(self, kind: str, depth: int) -> Value | None:
        start = self.position
        self._take()
        first = self._atom(depth + 1)
        second = self._atom(depth + 1) if kind == "frac" and first is not None else None
        if first is None or (kind == "frac" and not second) or (kind == "sqrt" and first < 0):
            self.position = start
            return None
        return self._keep(start, _root(first) if second is None else first / second)

    def _next(self) -> str | None:
        return self.tokens[self.position].kind if self.position < len(self.tokens) else None

    def _take(self) -> str:
        self.position += 1
        return self.tokens[self.position - 1].kind

    def _keep(self, start: int, value: Value | None, *, is_number: bool = False) -> Value | None:
        """Collect a part and return its value, or ``None`` if the value is too large."""
        if value is None or abs(float(value)) > MAX_VALUE or value.as_integer_ratio()[1] > MAX_DENOMINATOR:
            return None
        self.found.append(Expression(self.tokens, start, self.position, value, is_number))
        return value


def _power(base: Value, exponent: Value) -> Value | None:
    size, times = abs(float(base)), float(exponent)
    if abs(times) > MAX_EXPONENT or size == 0 or times * math.log(size) > math.log(MAX_VALUE):
        return None
    if isinstance(base, Fraction) and times.is_integer():
        return base ** int(times)
    return math.pow(base, exponent) if base > 0 else None


def _root(value: Value) -> Value:
    if isinstance(value, Fraction):
        above, below = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if Fraction(above, below) ** 2 == value:
            return Fraction(above, below)
    return math.sqrt(value)


def _number(value: Fraction) -> Token:
    return Token("number", str(value), value)
