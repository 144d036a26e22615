"""Tests that a role writes: read as data, run in the sandbox, and judged by mutants of a right program."""

import ast
import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from reason_envs.envs.petting.mutants import mutants
from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards.code.async_cache import AsyncCache
from reason_envs.rewards.code.grade import CodeGrader
from reason_envs.rewards.code.tests import Case, StdioTests, Tests, UnitTests, read_tests, split
from reason_envs.sandbox import Limits, Program, Raised, Sandbox
from reason_envs.sandbox.values import shown
from reason_envs.tasks import Task

RUN = "run"
"""Function that tests of programs with standard input call: ``assert run("1 2") == "3"``."""
TRIES_PER_MUTANT = 4
"""Maximum number of variants that are tried per mutant."""
_UNREADABLE = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)


def read_written_tests(code: str, name: str) -> tuple[list[Case], int] | None:
    """Read assertions about a function, such as ``assert f(1) == 2``.

    Returns:
        Calls with the conditions on their values, and the number of calls for which no value satisfies all assertions.
        ``None``: there are no assertions, or the text has anything else.
    """
    try:
        cases = split(UnitTests(code, name, name))
        return (cases, _contradictions(code, cases)) if cases else None
    except _UNREADABLE:
        return None


def golden_tests(task: Task) -> Tests:
    """Return the tests of a task with a right program.

    They are in ``metadata["tests"]``, or the metadata has the format of HumanEval or MBPP, or has ``inputs`` and
    ``outputs``. If the metadata has no prompt or right program, they are the question and the answer.
    """
    tests = task.metadata.get("tests", task.metadata)
    if isinstance(tests, Mapping):
        right = dict.fromkeys(("canonical_solution", "code", "solution"), task.answer)
        tests = read_tests(tests, {"prompt": f"{task.question}\n", **right}, f"Task {task.id!r}")
    if not tests.reference.strip():
        raise ReasonEnvsError(
            f"Task {task.id!r} has no right program, which is needed to judge tests: set it as the answer of the task."
        )
    return tests


class TestJudge(CodeGrader):
    """Grades programs by golden tests, and tests by at most ``max_mutants`` mutants of each right program.

    All forks share it. ``limits`` are those of a program with tests that a role wrote.
    """

    __test__ = False

    def __init__(self, sandbox: Sandbox, limits: Limits, max_mutants: int) -> None:
        super().__init__(sandbox, limits)
        self.max_mutants = max_mutants
        self._wrong_programs = AsyncCache(self._find_wrong_programs)

    async def run(self, source: str, tests: Tests, cases: Sequence[Case]) -> tuple[list[bool], str]:
        """Run a complete program on the tests that a role wrote.

        Returns:
            Whether each test passed, and the first failed test with the program's value in one line.
        """
        if isinstance(tests, StdioTests):
            values = list(await asyncio.gather(*(self._printed(source, case) for case in cases)))
        else:
            program = Program(source, "", tuple(case.expression for case in cases), self.limits)
            values = list((await self.sandbox.run(program)).values)
        values += [Raised("no answer", "")] * (len(cases) - len(values))
        pairs = list(zip(cases, values, strict=True))
        passed = [c.accepts(v) or (isinstance(v, str) and c.accepts(v + "\n")) for c, v in pairs]
        if all(passed):
            return passed, ""
        first = passed.index(False)
        value = values[first]
        gave = f"raised {value.type}" if isinstance(value, Raised) else f"gave {shown(value, 80, repr)}"
        return passed, f"{cases[first].expression} {gave}"

    async def score(self, tests: Tests, cases: Sequence[Case]) -> float:
        """Return the mutation score of tests that a role wrote.

        It is the share of the tests that hold for the right program, times the share of mutants that these detect.
        """
        right, _ = await self.run(tests.reference, tests, cases)
        valid = [case for case, passed in zip(cases, right, strict=True) if passed]
        found = await self._wrong_programs(tests)
        if not valid or not found:
            return len(valid) / len(cases)
        outcomes = await asyncio.gather(*(self.run(mutant, tests, valid) for mutant in found))
        detected = sum(not all(passed) for passed, _ in outcomes)
        return len(valid) / len(cases) * detected / len(found)

    async def _find_wrong_programs(self, tests: Tests) -> tuple[str, ...]:
        """Return mutants of the right program that fail the golden tests; other mutants may be right."""
        found: list[str] = []
        untried = islice(mutants(tests.reference), TRIES_PER_MUTANT * self.max_mutants)
        while tried := list(islice(untried, self.max_mutants - len(found))):
            grades = await asyncio.gather(*(self.grade(mutant, tests) for mutant in tried))
            found += [mutant for mutant, grade in zip(tried, grades, strict=True) if not grade.correct]
        return tuple(found)

    async def _printed(self, source: str, case: Case) -> Any:
        """Return the output of a program for the standard input in a test."""
        arguments = ast.parse(case.expression, mode="eval").body.args  # type: ignore[attr-defined]
        given = [ast.literal_eval(argument) for argument in arguments]
        if len(given) != 1 or not isinstance(given[0], str):
            return Raised("TypeError", f"{RUN} takes one text, the standard input")
        outcome = await self.sandbox.run(Program(source, given[0], limits=self.limits))
        return outcome.stdout.rstrip() if outcome.status == "ok" else Raised(outcome.status, outcome.reason)


def _contradictions(code: str, cases: Sequence[Case]) -> int:
    """Count the calls for which neither a value in the assertions nor a truth value satisfies all assertions."""
    compared = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Compare)]
    named = [True, False, *(ast.literal_eval(node.comparators[0]) for node in compared)]
    by_call: dict[str, list[Case]] = {}
    for case in cases:
        by_call.setdefault(case.expression, []).append(case)
    return sum(not any(all(case.accepts(value) for case in same) for value in named) for same in by_call.values())
