"""PettingCode-v0: a coder and a tester program a function until the tester's tests pass."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from reason_envs.envs.petting.base import Petting
from reason_envs.envs.petting.config import PettingConfig
from reason_envs.envs.petting.state import Effect
from reason_envs.envs.petting.written_tests import RUN, TestJudge, golden_tests, read_written_tests
from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards.code.grade import extract_code
from reason_envs.rewards.code.tests import Tests, UnitTests, split
from reason_envs.sandbox.monty import MontySandbox
from reason_envs.tasks import Task

CODER, TESTER = "coder", "tester"


@dataclass
class PettingCodeConfig(PettingConfig):
    """Options of PettingCode-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "functions"})
    """The problems: a family's name, a mapping of its ``name`` and options, or a ``TaskSet``. Each has tests and a
    right program; those of HumanEval and many of MBPP need ``sandbox=native``."""
    max_tests: int = 8
    """Most tests that the tester may write in a turn."""
    mutants: int = 6
    """Wrong variants of the right program that its tests should notice."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_tests", "mutants"):
            if getattr(self, name) < 1:
                raise ReasonEnvsError(f"{name}={getattr(self, name)} must be at least 1.")


@dataclass(frozen=True)
class CodeGame:
    """A problem and the program for it so far."""

    question: str
    """The problem."""
    tests: Tests
    """The golden tests, which nobody sees."""
    code: str = ""
    """The standing program."""
    share: float = 0.0
    """Share of the golden tests that it passes."""
    agreed: bool = False
    """Whether it passes the tester's tests."""
    usable: bool = True
    """Whether the right program passes the golden tests, as far as is known."""


class PettingCode(Petting):
    """The role ``coder`` writes a program, ``tester`` writes assertions such as ``assert f(1) == 2`` about it.

    The coder's latest program stands; the team earns the change in the share of golden tests that it passes. The tester
    is paid by ``local`` for the change of its mutation score: the share of its tests that hold for the right program,
    times the share of that program's mutants that these notice. The episode ends when the standing program passes all
    of the tester's tests; success is passing all golden ones. Where a problem reads standard input, tests call ``run``:
    ``assert run("1 2") == "3"``.

    Where the right program itself does not pass the golden tests, as happens in large data sets, nobody can be judged:
    the first decision ends the episode, earns nothing and is counted in ``unusable_tests``.
    """

    roles = (CODER, TESTER)
    prompts: ClassVar = {
        CODER: "Write the Python function or program.",
        TESTER: "Write tests for the right program, one a line, such as: assert f(1) == 2",
    }
    count_names = ("contradicting_tests", "unusable_tests")
    config: PettingCodeConfig

    def __init__(self, config: PettingCodeConfig | None = None) -> None:
        super().__init__(config or PettingCodeConfig())
        self.judge = TestJudge(self.programs.sandbox, self.programs.limits, self.config.mutants)

    def begin(self, task: Task) -> CodeGame:
        """Read the golden tests, and name the function where the problem does not."""
        tests = golden_tests(task)
        if not isinstance(tests, UnitTests):
            return CodeGame(task.question, tests)
        if isinstance(self.programs.sandbox, MontySandbox) and split(tests) is None:
            raise ReasonEnvsError(
                f"The tests of {task.id!r} are more than calls compared with values, which take a whole Python: set "
                "sandbox=native."
            )
        named = re.search(rf"\b{re.escape(tests.entry_point)}\b", task.question)
        return CodeGame(task.question if named else f"{task.question}\nName: {tests.entry_point}", tests)

    def board(self, game: CodeGame) -> str:
        """Write the problem."""
        return game.question

    def note(self, role: str, game: CodeGame) -> str:
        """Say where a program reads standard input, and how tests feed it."""
        if isinstance(game.tests, UnitTests):
            return ""
        if role == CODER:
            return "The program reads standard input and prints."
        return f'Tests give {RUN} the input and compare what is printed, such as: assert {RUN}("1 2") == "3"'

    def progress(self, game: CodeGame) -> float:
        """Return the share of the golden tests that the standing program passes."""
        return game.share

    def value(self, game: CodeGame) -> float:
        """Return the share of the golden tests that the standing program passes."""
        return game.share

    def solved(self, game: CodeGame) -> bool:
        """Whether the standing program passes every golden test."""
        return game.share == 1.0

    def finished(self, game: CodeGame) -> bool:
        """Whether the standing program passes the tester's tests, or nobody can tell what is right."""
        return game.agreed or not game.usable

    def idle_worth(self, game: CodeGame) -> dict[str, float]:
        """Let the tester earn by the tests of its latest decision alone."""
        return {TESTER: 0.0}

    async def act(self, role: str, text: str) -> Effect:
        """Take the coder's program, or ask it the tester's tests."""
        code = extract_code(text)
        if not code.strip():
            return self.unreadable("empty")
        if not await self.judge.usable(self.task.id, self.state.game.tests):
            game = replace(self.state.game, usable=False)
            return Effect(game, "the problem's own tests cannot be used", counts={"unusable_tests": 1})
        return await self._program(code) if role == CODER else await self._test(code)

    async def _program(self, code: str) -> Effect:
        game: CodeGame = self.state.game
        grade = await self.judge.grade(code, game.tests)
        trouble = grade.reason if grade.reason not in ("passed", "failed") else ""
        counts = {"program_timeouts": int(trouble == "timeout"), "program_errors": int(trouble not in ("", "timeout"))}
        return Effect(
            replace(game, code=code, share=grade.share),
            trouble or "runs",  # the golden verdict stays hidden
            local=-self.config.bad_format if trouble else 0.0,
            counts=counts,
            valid=not trouble,
        )

    async def _test(self, code: str) -> Effect:
        game: CodeGame = self.state.game
        name = game.tests.entry_point if isinstance(game.tests, UnitTests) else RUN
        written, most = read_written_tests(code, name), self.config.max_tests
        if written is None or len(written.cases) > most:
            outcome = "no tests" if written is None else f"{len(written.cases)} tests, {most} at most"
            return self.unreadable(outcome)
        asked, worth = await asyncio.gather(
            self.judge.ask(game.tests.program(game.code), game.tests, written.cases),
            self.judge.score(game.tests, written.cases),
        )
        outcome = f"{sum(asked.passed)}/{len(asked.passed)} pass" + (f"; {asked.failure}" if asked.failure else "")
        agreed = asked.all_passed and bool(game.code)
        counts = {"contradicting_tests": written.contradictions}
        return Effect(replace(game, agreed=agreed), outcome, worth=worth, counts=counts)
