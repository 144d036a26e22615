"""Tests that a role writes: read as data, asked of programs in the sandbox, and judged by a right program's mutants."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from reason_envs.envs.petting.mutants import mutants
from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards.code.async_cache import AsyncCache
from reason_envs.rewards.code.grade import CodeGrade, CodeGrader
from reason_envs.rewards.code.tests import Case, StdioTests, Tests, UnitTests, read_tests, split
from reason_envs.sandbox import Limits, Program, Raised, Sandbox
from reason_envs.tasks import Task

RUN = "run"
"""What tests of programs that read standard input call: ``assert run("1 2") == "3"``."""
TRIED = 4
"""How many variants are tried for each mutant that is wanted."""
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


@dataclass(frozen=True)
class WrittenTests:
    """Assertions about one function."""

    cases: tuple[Case, ...]
    """Each a call and what its value has to be."""
    contradictions: int
    """Calls of which no value satisfies every assertion."""


@dataclass(frozen=True)
class Asked:
    """What a program answered to tests."""

    passed: tuple[bool, ...]
    """Whether each test passed."""
    failure: str = ""
    """The first test that failed and the program's answer, in a line."""

    @property
    def all_passed(self) -> bool:
        """Whether there are tests and all passed."""
        return bool(self.passed) and all(self.passed)


def read_written_tests(code: str, name: str) -> WrittenTests | None:
    """Read assertions such as ``assert f(1) == 2``.

    Args:
        code: what was written.
        name: the function that they call.

    Returns:
        The tests; ``None`` where there are none, or where anything else is written.
    """
    try:
        cases = split(UnitTests(code, name, name))
        return WrittenTests(tuple(cases), _contradictions(code, cases)) if cases else None
    except _UNREADABLE:
        return None


def golden_tests(task: Task) -> Tests:
    """Return a task's tests with a right program.

    ``metadata["tests"]``, or the metadata in the format of HumanEval, of MBPP, or with ``inputs`` and ``outputs``; the
    question is the prompt and the answer the right program where the metadata has none.
    """
    tests = task.metadata.get("tests", task.metadata)
    if isinstance(tests, Mapping):
        right = dict.fromkeys(("canonical_solution", "code", "solution"), task.answer)
        tests = read_tests(tests, {"prompt": f"{task.question}\n", **right}, f"Task {task.id!r}")
    if not tests.reference.strip():
        raise ReasonEnvsError(
            f"Task {task.id!r} has no right program, without which nobody can tell good tests from bad: give it as the "
            "answer."
        )
    return tests


class TestJudge:
    """Knows the golden tests of problems, and finds mutants of their right programs; shared by all forks."""

    __test__ = False

    def __init__(self, sandbox: Sandbox, limits: Limits, most_mutants: int) -> None:
        """Remember how to run programs.

        Args:
            sandbox: where.
            limits: of a program with tests that a role wrote.
            most_mutants: how many mutants of a program are used.
        """
        self.sandbox, self.limits, self.most_mutants = sandbox, limits, most_mutants
        self.grader = CodeGrader(sandbox, limits)
        self._wrong_programs = AsyncCache(self._find_wrong_programs)

    async def usable(self, task_id: str, tests: Tests) -> bool:
        """Whether a problem's right program passes its tests; where not, the log says why."""
        return await self.grader.usable(task_id, tests)

    async def grade(self, code: str, tests: Tests) -> CodeGrade:
        """Grade a program by the golden tests; where it takes too long it is wrong."""
        return await self.grader.grade(code, tests)

    async def ask(self, source: str, tests: Tests, cases: Sequence[Case]) -> Asked:
        """Ask a whole program for the values of tests that a role wrote."""
        if isinstance(tests, StdioTests):
            values = list(await asyncio.gather(*(self._printed(source, case) for case in cases)))
        else:
            program = Program(source, "", tuple(case.expression for case in cases), self.limits)
            values = list((await self.sandbox.run(program)).values)
        values += [Raised("no answer", "")] * (len(cases) - len(values))
        passed = tuple(_accepts(case, value) for case, value in zip(cases, values, strict=True))
        if all(passed):
            return Asked(passed)
        first = passed.index(False)
        said = values[first]
        shown = f"raised {said.type}" if isinstance(said, Raised) else f"gave {said!r:.80}"
        return Asked(passed, f"{cases[first].expression} {shown}")

    async def score(self, tests: Tests, cases: Sequence[Case]) -> float:
        """Return the mutation score of tests that a role wrote.

        It is the share that hold for the right program, times the share of mutants that these notice.
        """
        right = await self.ask(tests.reference, tests, cases)
        valid = [case for case, passed in zip(cases, right.passed, strict=True) if passed]
        found = await self._wrong_programs(tests)
        if not valid or not found:
            return len(valid) / len(cases)
        asked = await asyncio.gather(*(self.ask(mutant, tests, valid) for mutant in found))
        noticed = sum(not answers.all_passed for answers in asked)
        return len(valid) / len(cases) * noticed / len(found)

    async def _find_wrong_programs(self, tests: Tests) -> tuple[str, ...]:
        """Find mutants of the right program that fail the golden tests: the others may be right too."""
        found: list[str] = []
        untried = islice(mutants(tests.reference), TRIED * self.most_mutants)
        while tried := list(islice(untried, self.most_mutants - len(found))):
            grades = await asyncio.gather(*(self.grade(mutant, tests) for mutant in tried))
            found += [mutant for mutant, grade in zip(tried, grades, strict=True) if not grade.correct]
        return tuple(found)

    async def _printed(self, source: str, case: Case) -> Any:
        """Return what a program prints for the standard input that a test names."""
        arguments = ast.parse(case.expression, mode="eval").body.args  # type: ignore[attr-defined]
        given = [ast.literal_eval(argument) for argument in arguments]
        if len(given) != 1 or not isinstance(given[0], str):
            return Raised("TypeError", f"{RUN} takes one text, the standard input")
        outcome = await self.sandbox.run(Program(source, given[0], limits=self.limits))
        return outcome.stdout.rstrip() if outcome.status == "ok" else Raised(outcome.status, outcome.reason)


def _accepts(case: Case, value: Any) -> bool:
    return case.accepts(value) or (isinstance(value, str) and case.accepts(value + "\n"))


def _contradictions(code: str, cases: Sequence[Case]) -> int:
    """Count the calls of which no value satisfies all assertions: neither one that is named nor a truth value."""
    compared = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Compare)]
    named = [True, False, *(ast.literal_eval(node.comparators[0]) for node in compared)]
    asked: dict[str, list[Case]] = {}
    for case in cases:
        asked.setdefault(case.expression, []).append(case)
    return sum(not any(all(case.accepts(value) for case in same) for value in named) for same in asked.values())
