"""Grading of mathematical answers: extraction, spelling, plain numbers, and math-verify for all others."""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards.math.extract import OR, extract_answer
from reason_envs.rewards.math.normalise import QuickReason, named_value, normalise, quick_verdict
from reason_envs.rewards.math.notation import asks_for_number, read_number, without_unit
from reason_envs.rewards.math.worker_pool import DEFAULT_POOL
from reason_envs.tasks.text import last_boxed

Reason = Literal[QuickReason, "no_answer", "unparsable", "algebra_error", "timeout", "worker_died"]


@dataclass(frozen=True)
class MathGrade:
    """Result of grading a response."""

    correct: bool
    """Whether the answer equals the gold answer."""
    extracted: str | None
    """Answer as written in the response; ``None`` if there is none."""
    reason: Reason
    """Reason of the grade. Correct: ``equal`` (same value) or ``string_match`` (same spelling or words). Wrong:
    ``different``, ``no_answer``, ``unevaluated`` (an expression such as 3+4 if the gold answer is a number),
    ``unparsable`` (one of the two is not readable mathematics), ``algebra_error`` (sympy failed), ``timeout`` or
    ``worker_died`` (the comparison took too long or crashed the worker, as with 9^9^9)."""


def grade_math(response: str, answer: str, answer_fallbacks: Sequence[str] = ()) -> MathGrade:
    r"""Grade a response against the gold answer. It works in any thread, inside or outside an event loop.

    Args:
        response: text that the model generated; its answer is in the last ``\boxed{}``.
        answer: gold answer, with or without a box.
        answer_fallbacks: ways to find an answer without a box, such as ``"####"`` (see `extract_answer`).
    """
    return _begin(response, answer, answer_fallbacks).wait()


async def grade_math_async(response: str, answer: str, answer_fallbacks: Sequence[str] = ()) -> MathGrade:
    """Grade like `grade_math`, without blocking the event loop."""
    case = _begin(response, answer, answer_fallbacks)
    if isinstance(case.verdict, str):
        return case.grade(case.verdict)
    return case.grade(await asyncio.wrap_future(case.verdict))


def grade_math_batch(pairs: Iterable[tuple[str, str]], answer_fallbacks: Sequence[str] = ()) -> list[MathGrade]:
    """Grade pairs of (response, gold answer) on all workers in parallel. The grades are in the order of the pairs."""
    cases = [_begin(response, answer, answer_fallbacks) for response, answer in pairs]
    try:
        return [case.wait() for case in cases]
    finally:  # an interrupted batch must leave the queue empty
        for case in cases:
            if isinstance(case.verdict, Future):
                case.verdict.cancel()


@dataclass(frozen=True)
class _Case:
    """One response with its verdict or a future of it."""

    extracted: str | None
    verdict: Reason | Future[str]
    """Reason of the grade, before ``is_in_form`` is checked."""
    is_in_form: bool = True
    """Whether the answer is a number if the gold answer is one."""

    def grade(self, reason: str) -> MathGrade:
        if reason == "equal" and not self.is_in_form:
            reason = "unevaluated"
        return MathGrade(reason in ("equal", "string_match"), self.extracted, cast(Reason, reason))

    def wait(self) -> MathGrade:
        return self.grade(self.verdict if isinstance(self.verdict, str) else self.verdict.result())


def _begin(response: str, answer: str, answer_fallbacks: Sequence[str]) -> _Case:
    """Decide without algebra if possible; otherwise queue the pair for a worker."""
    gold, asks_number = _read_gold(str(answer))
    extracted = extract_answer(response, answer_fallbacks)
    if extracted is None:
        return _Case(None, "no_answer")
    candidate = normalise(extracted)
    if "=" not in gold:  # without an equation in the gold answer, the answer is a value
        candidate = named_value(candidate)
    is_in_form = True
    if asks_number and candidate != gold:
        numbers, gold = [read_number(part) for part in candidate.split(OR)], read_number(gold) or gold
        is_in_form = None not in numbers
        if numbers[0] and len(numbers) == 1 and "=" not in candidate and "approx" not in candidate:
            candidate = numbers[0]
    gold, candidate = without_unit(gold), without_unit(candidate)
    verdict = quick_verdict(gold, candidate) or DEFAULT_POOL.submit(gold, candidate)
    return _Case(extracted, verdict, is_in_form)


@lru_cache(maxsize=4096)
def _read_gold(answer: str) -> tuple[str, bool]:
    """Return the normalised gold answer, and whether it is a number. Many responses have the same gold answer."""
    gold = normalise(last_boxed(answer) or answer)
    if not gold:
        raise ReasonEnvsError(f"The gold answer {answer!r} is empty; every task that is graded needs an answer.")
    return gold, asks_for_number(gold)
