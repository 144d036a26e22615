r"""One grading process: decides with math-verify whether an answer equals the gold answer.

`reason_envs.rewards.math.worker_pool` runs it as a script. It imports nothing from this package, so it starts quickly.
Requests ``{"gold", "answer", "limit"}`` and replies (reasons) are lines of JSON on a socket, its standard input.
"""

import json
import logging
import os
import re
import signal
import sys
from typing import Any

import math_verify.parser
import sympy as sp
from latex2sympy2_extended import NormalizationConfig
from latex2sympy2_extended.logic import And
from math_verify import LatexExtractionConfig, parse, verify
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational

MEMORY_LIMIT = 4 * 2**30
"""Maximum address space of a worker in bytes, so that an answer such as 9^9^9 does not exhaust the machine."""
SIGNIFICANT = 1e-4
"""Maximum relative difference of decimals that agree to six places."""
CLOSE = 1e-9
"""Maximum relative difference of exact numbers such as roots, which are compared numerically."""
_SPELLING = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all")
_EXTRACTION = [LatexExtractionConfig(boxed_match_priority=0, normalization_config=_SPELLING)]
math_verify.parser.get_last_eq = lambda latex: latex  # it would ignore all but the last side of unreadable answers
_UNITS: dict[str, tuple[re.Pattern[str], sp.Expr]] = {
    "percent": (re.compile(r"\s*\\?%$|\s*(?:\\text\{)?\s*percent\}?$"), sp.Rational(1, 100)),
    "degree": (re.compile(r"\s*\^?\{?(?:\\circ|\\degree|°)\}?$|\s*(?:\\text\{)?\s*degrees?\}?$"), sp.pi / 180),
}
"""Units that can be ignored or evaluated: 50 % is 50 or 1/2, and 45 degrees are 45 or pi/4."""


def judge(gold: str, answer: str) -> str:
    """Return ``"equal"`` (all sides of ``3+4=7`` and all offered values are), ``"different"`` or ``"unparsable"``."""
    verdict, parts = _judge(gold, answer), answer.split(r"\text{or}")
    if verdict == "equal" or len(parts) == 1 or len({_split_unit(part)[1] for part in parts}) > 1:
        return verdict
    is_list = not all(isinstance(_expression(_parse(part)), (sp.Expr, sp.Eq)) for part in parts)
    return "different" if is_list or any(_judge(gold, part) != "equal" for part in parts) else "equal"


def _judge(gold: str, answer: str) -> str:
    first, *rounded = [answer] if r"\approx" in gold else answer.split(r"\approx")
    (gold_text, gold_unit), (text, unit) = _split_unit(gold), _split_unit(first)
    parsed_gold, parsed = _parse(gold_text), _parse(text)
    left, right = _expression(parsed_gold), _expression(parsed)
    if left is None or right is None:
        return "equal" if _equal(parsed_gold, parsed) else "unparsable"
    left, sides = _sides(left, right)
    found = [_equal([left], [side]) for side in sides]
    if gold_unit != unit:  # with the same unit on both sides only the values are compared
        found[-1] = any(_equal([g], [v]) for g in _readings(left, gold_unit) for v in _readings(sides[-1], unit))
    values = [_expression(_parse(part)) for part in rounded]
    if values and not all(found) and isinstance(left, sp.Float):  # 3.46 is the answer of 2\sqrt{3} \approx 3.46
        found, left = [_equal([left], [value]) for value in values], sides[-1]
    return "equal" if all(found) and all(_is_rounded(value, left) for value in values) else "different"


def _is_rounded(value: Any, exact: Any) -> bool:
    """Return whether a decimal is the rounded value of a number."""
    if not isinstance(value, sp.Number) or not _is_number(exact) or _relative_difference(value, exact) > 0.01:
        return False
    places = len(str(value).partition(".")[2].rstrip("0"))
    return bool(abs(sp.N(exact, 30) - value) <= sp.Rational(51, 100) / 10**places)


def _sides(gold: Any, answer: Any) -> tuple[Any, list[Any]]:
    """Return the gold value, and the sides of the answer without its name: ``x``, ``f(x)``, or ``AB``, a product."""
    parts = list(answer._unsorted_args) if isinstance(answer, And) else [answer]
    if not all(isinstance(part, sp.Eq) for part in parts):
        return gold, [answer]
    if isinstance(gold, sp.Eq) and len(parts) > 1 and parts[0].lhs == gold.lhs:
        gold = gold.rhs
    letters = parts[0].lhs.args if isinstance(parts[0].lhs, sp.Mul) else [parts[0].lhs]
    sides = [] if all(isinstance(part, (sp.Symbol, AppliedUndef)) for part in letters) else [parts[0].lhs]
    return gold, [answer] if isinstance(gold, (Relational, And)) else sides + [part.rhs for part in parts]


def _split_unit(text: str) -> tuple[str, str | None]:
    for name, (pattern, _) in _UNITS.items():
        if (bare := pattern.sub("", text)) and bare != text:
            return bare, name
    return text, None


def _readings(value: Any, unit: str | None) -> list[Any]:
    return [value] if unit is None or not isinstance(value, sp.Expr) else [value, value * _UNITS[unit][1]]


def _parse(text: str) -> list[Any]:
    # The caller limits the time: a time limit here would report a timeout as a wrong answer.
    return parse(f"\\boxed{{{text}}}", _EXTRACTION, extraction_mode="first_match", parsing_timeout=None)


def _expression(parsed: list[Any]) -> Any:
    return next((item for item in parsed if isinstance(item, (sp.Basic, sp.MatrixBase))), None)


def _equal(gold: list[Any], answer: list[Any]) -> bool:
    left, right = _expression(gold), _expression(answer)
    if isinstance(left, sp.Eq) and isinstance(right, sp.Eq) and not isinstance(left.rhs, sp.Set):
        return _same_equation(left, right)
    parts = [] if left is None or right is None else list(zip(_parts(left), _parts(right), strict=False))
    numbers = [(a, b) for a, b in parts if _is_number(a) and _is_number(b)]  # math-verify accepts any tiny ones
    return verify(gold, answer, timeout_seconds=None) and all(_agree(a, b) for a, b in numbers)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, sp.Interval):
        return [value.start, value.end]
    if isinstance(value, sp.FiniteSet) and all(_is_number(item) for item in value):
        return sorted(value, key=lambda item: (sp.N(item).as_real_imag()[0], sp.N(item).as_real_imag()[1]))
    if isinstance(value, sp.MatrixBase):
        return list(value.flat())
    return list(value) if isinstance(value, sp.Tuple) else [value]


def _is_number(value: Any) -> bool:
    return isinstance(value, sp.Expr) and bool(value.is_number) and value.doit().is_finite is not False


def _agree(left: sp.Expr, right: sp.Expr) -> bool:
    left, right = left.doit(), right.doit()
    if isinstance(left, sp.Rational) and isinstance(right, sp.Rational):
        return left == right
    tolerance = SIGNIFICANT if left.has(sp.Float) or right.has(sp.Float) else CLOSE
    return _relative_difference(left, right) <= tolerance


def _relative_difference(left: sp.Expr, right: sp.Expr) -> float:
    a, b = sp.N(left, 30), sp.N(right, 30)
    scale = max(abs(a), abs(b))
    return float(abs(a - b) / scale) if scale else 0.0


def _same_equation(left: sp.Eq, right: sp.Eq) -> bool:
    """Return whether two equations have the same sides, are multiples of each other, or have the same solutions."""
    if left == right or (left.lhs == right.rhs and left.rhs == right.lhs):
        return True
    if left.free_symbols != right.free_symbols or not left.free_symbols:
        return False
    first, second = left.lhs - left.rhs, right.lhs - right.rhs
    ratio = sp.simplify(first / second)
    if ratio.is_number and ratio.is_finite and not ratio.is_zero:
        return True
    symbol = min(left.free_symbols, key=str)
    solutions, others = sp.solve(first, symbol), sp.solve(second, symbol)
    return (
        bool(solutions)
        and len(solutions) == len(others)
        and all(any(sp.simplify(a - b).is_zero for b in others) for a in solutions)
    )


def main() -> None:
    """Answer requests until standard input closes, which also happens when the parent process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    logging.disable(logging.CRITICAL)
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    replies = os.fdopen(os.dup(0), "wb", buffering=0)
    os.dup2(2, 1)  # output of libraries is shown
    judge("x+1", "1+x")  # load and compile everything before the time of the first request counts
    replies.write(b'"ready"\n')
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _limit_processor_time(request["limit"])
        try:
            reason = judge(request["gold"], request["answer"])
        except Exception:  # noqa: BLE001  (exceptions of sympy have no common base; the reason reports them)
            reason = "algebra_error"
        replies.write(json.dumps(reason).encode() + b"\n")


def _limit_processor_time(seconds: float) -> None:
    """Let the kernel end this process if the parent ends during a computation that ignores all signals."""
    if sys.platform == "win32":
        return
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    allowed = int(usage.ru_utime + usage.ru_stime + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (allowed, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main()
