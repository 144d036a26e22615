"""PettingCode-v0: a coder writes a program and a tester writes tests until the program passes them."""

import asyncio
import re
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from reason_envs.envs.petting.base import GAMES, Petting
from reason_envs.envs.petting.config import PettingConfig
from reason_envs.envs.petting.state import DecisionResult
from reason_envs.envs.petting.written_tests import RUN, TestJudge, golden_tests, read_written_tests
from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards.code.grade import extract_code
from reason_envs.rewards.code.tests import Tests, UnitTests, split
from reason_envs.sandbox.monty import MontySandbox
from reason_envs.tasks import Task
from reason_envs.validation import limited

CODER, TESTER = "coder", "tester"


@dataclass
class PettingCodeConfig(PettingConfig):
    """Options of PettingCode-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "functions"})
    """Problems with tests and a right program: the name of a task family, a mapping of its ``name`` and options, or a
    ``TaskSet``. HumanEval and many problems of MBPP need ``sandbox=native``."""
    max_tests: int = limited(8, at_least=1)
    """Maximum number of tests per decision of the tester."""
    mutants: int = limited(6, at_least=1)
    """Number of wrong variants of the right program that the tests should detect."""


@dataclass(frozen=True)
class CodeGame:
    """A problem and the current program."""

    question: str
    """Text of the problem."""
    tests: Tests
    """Golden tests, which no role sees."""
    code: str = ""
    """Latest program of the coder; empty before the first one."""
    share: float = 0.0
    """Share of the golden tests that the program passes."""
    agreed: bool = False
    """Whether the program passes the tester's latest tests."""
    usable: bool = True
    """Whether the right program passes the golden tests; ``True`` until the first decision finds out."""


class PettingCode(Petting):
    """Role ``coder`` writes a program; role ``tester`` writes assertions such as ``assert f(1) == 2``.

    The team earns the change of the share of golden tests that the coder's latest program passes. The tester earns, as
    its local reward, the change of its mutation score: the share of its tests that hold for the right program, times
    the share of that program's mutants that these tests detect. The episode ends when the latest program passes all of
    the tester's tests. It is a success if the program also passes all golden tests. If a problem reads standard input,
    tests call ``run``: ``assert run("1 2") == "3"``.

    In large data sets, some right programs do not pass their golden tests. Then the first decision ends the episode,
    earns 0 and is counted in ``unusable_tests``.
    """

    roles = (CODER, TESTER)
    prompts: ClassVar = GAMES["code"]["prompts"]
    count_names = ("contradicting_tests", "unusable_tests")
    config_class = PettingCodeConfig
    config: PettingCodeConfig

    def __init__(self, config: PettingCodeConfig | None = None) -> None:
        super().__init__(config)
        self.judge = TestJudge(self.sandbox, self.limits, self.config.mutants)

    def new_game(self, task: Task) -> CodeGame:
        """Read the golden tests, and add the name of the function if the problem lacks it."""
        tests = golden_tests(task)
        if not isinstance(tests, UnitTests):
            return CodeGame(task.question, tests)
        if isinstance(self.sandbox, MontySandbox) and split(tests) is None:
            raise ReasonEnvsError(
                f"The tests of task {task.id!r} need a complete Python: they do more than compare calls with values. "
                "Set sandbox=native."
            )
        named = re.search(rf"\b{re.escape(tests.entry_point)}\b", task.question)
        return CodeGame(task.question if named else f"{task.question}\nName: {tests.entry_point}", tests)

    def role_hint(self, role: str, game: CodeGame) -> str:
        """Return how programs and tests use standard input, if the problem reads it."""
        if isinstance(game.tests, UnitTests):
            return ""
        if role == CODER:
            return "The program reads standard input and prints."
        return f'Tests give {RUN} the input and compare what is printed, such as: assert {RUN}("1 2") == "3"'

    def progress(self, game: CodeGame) -> float:
        """Return the share of the golden tests that the latest program passes."""
        return game.share

    def finished(self, game: CodeGame) -> bool:
        """Return whether the latest program passes the tester's tests, or the golden tests are unusable."""
        return game.agreed or not game.usable

    def baseline_contribution(self, game: CodeGame) -> dict[str, float]:
        """Return 0.0 for the tester: only its latest tests count."""
        return {TESTER: 0.0}

    async def act(self, role: str, text: str) -> DecisionResult:
        """Grade the coder's program, or run the tester's tests."""
        code = extract_code(text)
        if not code.strip():
            return self.unreadable("empty")
        if not await self.judge.usable(self.task.id, self.state.game.tests):
            game = replace(self.state.game, usable=False)
            return DecisionResult(game, "the problem's own tests cannot be used", counts={"unusable_tests": 1})
        return await self._program(code) if role == CODER else await self._test(code)

    async def _program(self, code: str) -> DecisionResult:
        game: CodeGame = self.state.game
        grade = await self.judge.grade(code, game.tests)
        trouble = grade.reason if grade.reason not in ("passed", "failed") else ""
        counts = {"program_timeouts": int(trouble == "timeout"), "program_errors": int(trouble not in ("", "timeout"))}
        return DecisionResult(
            replace(game, code=code, share=grade.share),
            trouble or "runs",  # the golden verdict stays hidden
            local=-self.config.bad_format if trouble else 0.0,
            counts=counts,
            valid=not trouble,
        )

    async def _test(self, code: str) -> DecisionResult:
        game: CodeGame = self.state.game
        name = game.tests.entry_point if isinstance(game.tests, UnitTests) else RUN
        written, most = read_written_tests(code, name), self.config.max_tests
        if written is None:
            return self.unreadable("no tests")
        cases, contradictions = written
        if len(cases) > most:
            return self.unreadable(f"{len(cases)} tests, {most} at most")
        (passed, failure), mutation_score = await asyncio.gather(
            self.judge.run(game.tests.program(game.code), game.tests, cases), self.judge.score(game.tests, cases)
        )
        outcome = f"{sum(passed)}/{len(passed)} pass" + (f"; {failure}" if failure else "")
        agreed = all(passed) and bool(game.code)
        counts = {"contradicting_tests": contradictions}
        return DecisionResult(replace(game, agreed=agreed), outcome, contribution_value=mutation_score, counts=counts)
