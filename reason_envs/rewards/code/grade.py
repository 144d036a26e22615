"""Grading of programs by tests.

No verdict is made where the program runs. A program is asked for values or printed text, which come back as data, and
is never told what is expected. ``assert f(1) == 2`` becomes the question ``f(1)``, and the answer is compared here.
Tests that cannot be taken apart so run by themselves on the program's recorded answers (see ``code_replay``).
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards.base import Reward, RewardConfig, RewardFunction
from reason_envs.rewards.code.once import Once
from reason_envs.rewards.code.tests import Case, StdioTests, Tests, UnitTests, read_tests, split
from reason_envs.sandbox import Limits, Outcome, Program, Raised, Sandbox, literal, make_sandbox
from reason_envs.tasks.base import Task
from reason_envs.validation import mounted

_log = logging.getLogger(__name__)

LEAST_SECONDS = 2.0
"""Time that every program gets, whatever the reference needs."""
TIMES_REFERENCE = 10.0
"""How many times the reference's time a program gets on top."""
REFERENCE_SECONDS = 60.0
"""Time that a reference gets."""
TEST_OUTPUT = 2**22
"""Bytes that trusted tests may send."""
_FENCE = re.compile(r"```(?:python|py)?[^\S\n]*\n(.*?)```", re.DOTALL | re.IGNORECASE)


class UnusableTestsError(ReasonEnvsError):
    """A problem's own tests judge nobody: they do not run, or its right program does not pass them."""


@dataclass(frozen=True)
class CodeGrade:
    """What grading a program found."""

    correct: bool
    """Whether every test passed."""
    passed: int
    """Number of tests that passed."""
    total: int
    """Number of tests."""
    reason: str
    """``passed``, ``failed`` (it ran, a test did not pass), ``no_code``, or the program's status: ``error``,
    ``timeout``, ``memory``, ``output``, ``killed``, ``refused``; ``unusable_tests`` where nobody can be judged."""
    seconds: float = field(default=0.0, compare=False)
    """Wall-clock time of the program's longest run."""

    @property
    def share(self) -> float:
        """Share of the tests that passed."""
        return self.passed / self.total if self.total else 0.0


def extract_code(response: str) -> str:
    """Return the code of a response: its last fenced block, or all of it where it has none."""
    blocks = _FENCE.findall(response)
    return blocks[-1] if blocks else response


class CodeGrader:
    """Grades programs in a sandbox; remembers what it learnt about tests."""

    def __init__(self, sandbox: Any = "native", limits: Limits | None = None) -> None:
        """Set up a grader without starting anything.

        Args:
            sandbox: a name or a ``Sandbox``.
            limits: what a program may use; its seconds hold for tests without a reference only.
        """
        with mounted("sandbox"):
            self.sandbox: Sandbox = make_sandbox(sandbox)
        self.limits = limits or Limits()
        self._prepare = Once[Tests, _Examiner](lambda tests: _examiner(tests, self.sandbox, self.limits))
        self._usable = Once(self._try_tests)

    async def usable(self, task_id: str, tests: Tests) -> bool:
        """Whether anybody can be judged by a problem's tests; where not, the log says once why."""
        return await self._usable((task_id, tests))

    async def _try_tests(self, problem: tuple[str, Tests]) -> bool:
        task_id, tests = problem
        try:
            await self._prepare(tests)
        except UnusableTestsError as error:
            where = type(self.sandbox).__name__
            _log.warning("Nobody can be judged by the tests of %r in a %s; it earns nothing. %s", task_id, where, error)
            return False
        return True

    async def grade(self, code: str, tests: Tests) -> CodeGrade:
        """Grade a program, given as a model wrote it (see ``extract_code``).

        Raises:
            UnusableTestsError: the tests judge nobody.
        """
        examiner = await self._prepare(tests)
        if not code.strip():
            return CodeGrade(False, 0, examiner.total, "no_code")
        return await examiner.examine(self.sandbox, tests.program(code))


@dataclass(frozen=True)
class _Examiner:
    """Knows the tests of one problem."""

    limits: Limits
    total: int

    async def examine(self, sandbox: Sandbox, source: str) -> CodeGrade:
        raise NotImplementedError

    def grade(self, passed: int, *outcomes: Outcome) -> CodeGrade:
        """Build the grade; where something failed, the program's own trouble is the reason."""
        seconds = max(outcome.seconds for outcome in outcomes)
        if passed == self.total:
            return CodeGrade(True, passed, self.total, "passed", seconds)
        trouble = [outcome.status for outcome in outcomes if outcome.status != "ok"]
        return CodeGrade(False, passed, self.total, trouble[0] if trouble else "failed", seconds)


@dataclass(frozen=True)
class _Cases(_Examiner):
    """Compares the values of calls with what is expected."""

    cases: tuple[Case, ...] = ()

    async def examine(self, sandbox: Sandbox, source: str) -> CodeGrade:
        outcome = await sandbox.run(Program(source, "", tuple(case.expression for case in self.cases), self.limits))
        values = zip(self.cases, outcome.values, strict=False)
        return self.grade(sum(case.accepts(value) for case, value in values), outcome)


@dataclass(frozen=True)
class _Printed(_Examiner):
    """Compares what is printed for each input with what is expected."""

    cases: tuple[tuple[str, str], ...] = ()

    async def examine(self, sandbox: Sandbox, source: str) -> CodeGrade:
        programs = [Program(source, stdin, (), self.limits) for stdin, _ in self.cases]
        outcomes = await asyncio.gather(*(sandbox.run(program) for program in programs))
        pairs = zip(outcomes, self.cases, strict=True)
        passed = sum(out.status == "ok" and _lines(out.stdout) == _lines(expected) for out, (_, expected) in pairs)
        return self.grade(passed, *outcomes)


@dataclass(frozen=True)
class _Replayed(_Examiner):
    """Runs the tests on the program's answers to the calls that they made of the reference."""

    tests: UnitTests = field(kw_only=True)
    calls: dict[str, str] = field(kw_only=True)
    """The key of each call, and the call as an expression."""

    async def examine(self, sandbox: Sandbox, source: str) -> CodeGrade:
        outcome = await sandbox.run(Program(source, "", tuple(self.calls.values()), self.limits))
        answers = {key: _answer(value) for key, value in zip(self.calls, outcome.values, strict=False)}
        told = {key: answer for key, answer in answers.items() if answer is not None}
        tested = await _run_tests(sandbox, self.tests, told, self.limits)
        if tested.status != "ok" or not isinstance(tested.value, tuple):  # the answers gave the tests too much to do
            return self.grade(0, outcome)
        _, held, ended = tested.value
        passed = sum(held[: self.total])
        if passed == self.total and (ended or not all(held)):
            passed -= 1  # nothing that was recorded failed, but the tests did
        return self.grade(passed, outcome)


async def _examiner(tests: Tests, sandbox: Sandbox, limits: Limits) -> _Examiner:
    """Take the tests apart, and hold them to the reference: tests that fail it judge nobody."""
    if isinstance(tests, StdioTests):
        return await _timed(_Printed(limits, len(tests.cases), tests.cases), tests, sandbox)
    if (cases := split(tests)) is not None:
        return await _timed(_Cases(limits, len(cases), tuple(cases)), tests, sandbox)
    recorded = await _run_tests(sandbox, tests, None, replace(limits, seconds=REFERENCE_SECONDS))
    if recorded.status != "ok" or not isinstance(recorded.value, tuple):
        why = recorded.reason or repr(recorded.value)
        raise UnusableTestsError(f"The tests of {tests.entry_point!r} do not run by themselves: {why[:300]}")
    calls, held, ended = recorded.value
    if ended or not held or (tests.reference and not all(held)):
        raise UnusableTestsError(
            f"The tests of {tests.entry_point!r} cannot be used: {ended or f'{sum(held)} of {len(held)} hold'} with "
            f"{'the reference' if tests.reference else 'no reference; give one'}."
        )
    questions = {key: f"{tests.entry_point}(*{literal(args)}, **{literal(kwargs)})" for key, args, kwargs in calls}
    return await _timed(_Replayed(limits, len(held), tests=tests, calls=questions), tests, sandbox)


async def _timed(examiner: Any, tests: Tests, sandbox: Sandbox) -> _Examiner:
    """Scale the time limit by the reference's time, where there is a reference."""
    if not tests.reference:
        return examiner
    patient = replace(examiner, limits=replace(examiner.limits, seconds=REFERENCE_SECONDS))
    grade = await patient.examine(sandbox, tests.reference)
    if not grade.correct:
        raise UnusableTestsError(
            f"The reference solution passes {grade.passed} of its own {grade.total} tests ({grade.reason}): mend the "
            f"problem, or raise the limits ({patient.limits})."
        )
    seconds = LEAST_SECONDS + TIMES_REFERENCE * grade.seconds
    return replace(examiner, limits=replace(examiner.limits, seconds=seconds))


async def _run_tests(
    sandbox: Sandbox, tests: UnitTests, answers: dict[str, tuple[str, Any]] | None, limits: Limits
) -> Outcome:
    """Run tests by themselves (see ``code_replay.run_tests``)."""
    replay = Path(__file__).with_name("replay.py").read_text(encoding="utf-8")
    start_from = tests.reference or tests.preamble
    told = "None" if answers is None else literal(answers)
    call = f"run_tests({start_from!r}, {tests.code!r}, {tests.called!r}, {tests.entry_point!r}, {told})"
    return await sandbox.run(Program(replay, "", (call,), replace(limits, output_bytes=TEST_OUTPUT)))


def _answer(value: Any) -> tuple[str, Any] | None:
    """Return a program's answer for the tests; ``None`` where it is, or holds, anything but plain data."""
    if isinstance(value, Raised):
        return ("raised", value.type)
    try:
        literal(value)
    except ValueError:
        return None
    return ("value", value)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


@dataclass(frozen=True)
class CodeReward(RewardFunction):
    """Pays for a program that passes every test; ``task.metadata["tests"]`` has the tests, or their record."""

    correct: float = RewardConfig.correct
    """Paid where every test passes."""
    wrong: float = RewardConfig.wrong
    """Paid where a test fails."""
    no_answer: float = RewardConfig.no_answer
    """Paid where there is no code."""
    sandbox: Any = "native"
    """Name of a sandbox, or a ``Sandbox``."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_grader", CodeGrader(self.sandbox))

    async def __call__(self, response: str, task: Task, seed: int) -> Reward:
        """Grade the response; info has ``correct``, ``passed``, ``total``, ``reason`` and ``no_answer``.

        A problem by whose tests nobody can be judged pays 0 and is counted in ``unusable_tests``.
        """
        tests = task.metadata.get("tests", task.metadata)
        if not isinstance(tests, (UnitTests, StdioTests)):
            tests = read_tests(tests)
        grader: CodeGrader = self._grader  # type: ignore[attr-defined]
        usable = await grader.usable(task.id, tests)
        grade = (
            await grader.grade(extract_code(response), tests) if usable else CodeGrade(False, 0, 0, "unusable_tests")
        )
        no_code = grade.reason == "no_code"
        value = self.correct if grade.correct else self.no_answer if no_code else self.wrong if usable else 0.0
        info = {"correct": grade.correct, "passed": grade.passed, "total": grade.total, "reason": grade.reason}
        return Reward(value, {**info, "no_answer": no_code, "unusable_tests": not usable})
