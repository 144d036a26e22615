"""Grading of programs by tests.

The verdict is never made where the program runs. The program returns values or printed text as data and does not see
what is expected: ``assert f(1) == 2`` becomes the call ``f(1)``, and its value is compared in this process. Tests that
cannot be split into calls run separately, on recorded answers of the program (see `reason_envs.rewards.code.replay`).
"""

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import Any

from reason_envs.errors import ReasonEnvsError
from reason_envs.resources import read_text
from reason_envs.rewards.base import Reward, RewardConfig, RewardFunction
from reason_envs.rewards.code.async_cache import AsyncCache
from reason_envs.rewards.code.extract import extract_code
from reason_envs.rewards.code.tests import Case, StdioTests, Tests, UnitTests, read_tests, split
from reason_envs.sandbox import Limits, Outcome, Program, Raised, Sandbox, literal, make_sandbox
from reason_envs.tasks.base import Task
from reason_envs.validation import mounted

_log = logging.getLogger(__name__)

MINIMUM_SECONDS = 2.0
"""Minimum time limit of a program, in seconds."""
TIMES_REFERENCE = 10.0
"""Multiple of the reference solution's time that is added to the minimum time limit."""
REFERENCE_SECONDS = 60.0
"""Time limit of a reference solution, in seconds."""
LARGE_OUTPUT = 2**22
"""Maximum output in bytes of the tests, and of programs whose reference solution exceeds the limit of the sandbox."""


class UnusableTestsError(ReasonEnvsError):
    """The tests of a task cannot be used: they do not run, or the reference solution does not pass them."""


@dataclass(frozen=True)
class CodeGrade:
    """Result of grading a program."""

    correct: bool
    """Whether every test passed."""
    passed: int
    """Number of tests that passed."""
    total: int
    """Number of tests."""
    reason: str
    """Reason of the grade: ``passed``, ``failed`` (the program ran and a test failed), ``no_code``, ``unusable_tests``,
    or the status of the program: ``error``, ``timeout``, ``memory``, ``output``, ``killed``, ``refused``."""
    seconds: float = field(default=0.0, compare=False)
    """Wall-clock time of the longest run of the program, in seconds."""

    @property
    def share(self) -> float:
        """Share of the tests that passed."""
        return self.passed / self.total if self.total else 0.0


class CodeGrader:
    """Grades programs in a sandbox, which starts with the first program. Tests are prepared once and cached.

    Args:
        sandbox: a `Sandbox`, or the name of one.
        limits: limits of a program. The time limit applies only without a reference solution. ``None``: the limits of
            the sandbox.
    """

    def __init__(self, sandbox: Any = "native", limits: Limits | None = None) -> None:
        with mounted("sandbox"):
            self.sandbox: Sandbox = make_sandbox(sandbox)
        self.limits = limits or self.sandbox.limits_for()
        self._prepare = AsyncCache[Tests, _Examiner](lambda tests: _examiner(tests, self.sandbox, self.limits))
        self._usable = AsyncCache(self._try_tests)

    async def usable(self, task_id: str, tests: Tests) -> bool:
        """Return whether the tests of a task can be used. If they cannot, the reason is logged once per task."""
        return await self._usable((task_id, tests))

    async def _try_tests(self, task: tuple[str, Tests]) -> bool:
        task_id, tests = task
        try:
            await self._prepare(tests)
        except UnusableTestsError as error:
            sandbox = type(self.sandbox).__name__
            _log.warning("The tests of %r cannot be used in a %s; its reward is 0. %s", task_id, sandbox, error)
            return False
        return True

    async def grade(self, code: str, tests: Tests) -> CodeGrade:
        """Grade the code of a response (see `extract_code`).

        Raises:
            UnusableTestsError: the tests cannot be used.
        """
        examiner = await self._prepare(tests)
        if not code.strip():
            return CodeGrade(False, 0, examiner.total, "no_code")
        return await examiner.examine(self.sandbox, tests.program(code))


@dataclass(frozen=True)
class _Examiner:
    """The prepared tests of one task."""

    limits: Limits
    total: int

    async def examine(self, sandbox: Sandbox, source: str) -> CodeGrade:
        raise NotImplementedError

    def grade(self, passed: int, *outcomes: Outcome) -> CodeGrade:
        """Build the grade. If a test failed and the program did not end normally, its status is the reason."""
        seconds = max(outcome.seconds for outcome in outcomes)
        if passed == self.total:
            return CodeGrade(True, passed, self.total, "passed", seconds)
        faults = [outcome.status for outcome in outcomes if outcome.status != "ok"]
        return CodeGrade(False, passed, self.total, faults[0] if faults else "failed", seconds)


@dataclass(frozen=True)
class _Cases(_Examiner):
    """Compares the values of calls with the expected ones."""

    cases: tuple[Case, ...] = ()

    async def examine(self, sandbox: Sandbox, source: str) -> CodeGrade:
        outcome = await sandbox.run(Program(source, "", tuple(case.expression for case in self.cases), self.limits))
        values = zip(self.cases, outcome.values, strict=False)
        return self.grade(sum(case.accepts(value) for case, value in values), outcome)


@dataclass(frozen=True)
class _Printed(_Examiner):
    """Compares the printed text for each input with the expected one."""

    cases: tuple[tuple[str, str], ...] = ()

    async def examine(self, sandbox: Sandbox, source: str) -> CodeGrade:
        programs = [Program(source, stdin, (), self.limits) for stdin, _ in self.cases]
        outcomes = await asyncio.gather(*(sandbox.run(program) for program in programs))
        pairs = zip(outcomes, self.cases, strict=True)
        passed = sum(out.status == "ok" and _lines(out.stdout) == _lines(expected) for out, (_, expected) in pairs)
        return self.grade(passed, *outcomes)


@dataclass(frozen=True)
class _Replayed(_Examiner):
    """Runs the tests on the program's answers to the calls that the tests made to the reference solution."""

    tests: UnitTests = field(kw_only=True)
    calls: dict[str, str] = field(kw_only=True)
    """Expression of each call, by the key of the call."""

    async def examine(self, sandbox: Sandbox, source: str) -> CodeGrade:
        outcome = await sandbox.run(Program(source, "", tuple(self.calls.values()), self.limits))
        answers = {key: _answer(value) for key, value in zip(self.calls, outcome.values, strict=False)}
        recorded = {key: answer for key, answer in answers.items() if answer is not None}
        tested = await _run_tests(sandbox, self.tests, recorded, self.limits)
        if tested.status != "ok" or not isinstance(tested.value, tuple):  # the tests exceeded their limits
            return self.grade(0, outcome)
        _, held, ended = tested.value
        passed = sum(held[: self.total])
        if passed == self.total and (ended or not all(held)):
            passed -= 1  # every recorded assertion holds, but the tests failed
        return self.grade(passed, outcome)


async def _examiner(tests: Tests, sandbox: Sandbox, limits: Limits) -> _Examiner:
    """Split the tests into cases if possible, and check them against the reference solution."""
    if isinstance(tests, StdioTests):
        expected = max((len(expected.encode()) for _, expected in tests.cases), default=0)
        limits = replace(limits, output_bytes=max(limits.output_bytes, 2 * expected))
        return await _timed(_Printed(limits, len(tests.cases), tests.cases), tests, sandbox)
    if (cases := split(tests)) is not None:
        return await _timed(_Cases(limits, len(cases), tuple(cases)), tests, sandbox)
    recorded = await _run_tests(sandbox, tests, None, replace(limits, seconds=REFERENCE_SECONDS))
    if recorded.status != "ok" or not isinstance(recorded.value, tuple):
        why = recorded.reason or repr(recorded.value)
        raise UnusableTestsError(f"The tests of {tests.entry_point!r} do not run: {why[:300]}")
    calls, held, ended = recorded.value
    if ended or not held or (tests.reference and not all(held)):
        raise UnusableTestsError(
            f"The tests of {tests.entry_point!r} do not pass ({ended or f'{sum(held)} of {len(held)} assertions hold'})"
            f" with {'the reference solution' if tests.reference else 'no reference solution; add one'}."
        )
    questions = {key: f"{tests.entry_point}(*{literal(args)}, **{literal(kwargs)})" for key, args, kwargs in calls}
    return await _timed(_Replayed(limits, len(held), tests=tests, calls=questions), tests, sandbox)


async def _timed(examiner: Any, tests: Tests, sandbox: Sandbox) -> _Examiner:
    """Set the limits from the time and the output of the reference solution, if there is one."""
    if not tests.reference:
        return examiner
    slow = replace(examiner, limits=replace(examiner.limits, seconds=REFERENCE_SECONDS))
    grade = await slow.examine(sandbox, tests.reference)
    if grade.reason == "output" and examiner.limits.output_bytes < LARGE_OUTPUT:
        large = replace(examiner.limits, output_bytes=LARGE_OUTPUT)
        return await _timed(replace(examiner, limits=large), tests, sandbox)
    if not grade.correct:
        raise UnusableTestsError(
            f"The reference solution passes {grade.passed} of its {grade.total} tests ({grade.reason}): fix the task, "
            f"or raise the limits ({slow.limits})."
        )
    seconds = MINIMUM_SECONDS + TIMES_REFERENCE * grade.seconds
    return replace(examiner, limits=replace(examiner.limits, seconds=seconds))


async def _run_tests(
    sandbox: Sandbox, tests: UnitTests, answers: dict[str, tuple[str, Any]] | None, limits: Limits
) -> Outcome:
    """Run tests without the program (see `reason_envs.rewards.code.replay.run_tests`)."""
    replay = read_text(__file__, "replay.py")
    start_from = tests.reference or tests.preamble
    given = "None" if answers is None else literal(answers)
    call = f"run_tests({start_from!r}, {tests.code!r}, {tests.called!r}, {tests.entry_point!r}, {given})"
    return await sandbox.run(Program(replay, "", (call,), replace(limits, output_bytes=LARGE_OUTPUT)))


def _answer(value: Any) -> tuple[str, Any] | None:
    """Return the answer of a program for the tests, or ``None`` if it is not plain data."""
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
    """Rewards a program that passes every test. ``task.metadata["tests"]`` has the tests or their record."""

    correct: float = RewardConfig.correct
    """Reward if every test passes."""
    wrong: float = RewardConfig.wrong
    """Reward if a test fails."""
    no_answer: float = RewardConfig.no_answer
    """Reward if the response has no code."""
    sandbox: Any = "native"
    """A `Sandbox`, or the name of one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_grader", CodeGrader(self.sandbox))

    async def __call__(self, response: str, task: Task, seed: int) -> Reward:
        """Grade the response.

        The info has ``correct``, ``passed``, ``total``, ``reason``, ``no_answer`` and ``unusable_tests``. If the tests
        of the task cannot be used, the reward is 0.
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
