"""Operators of workflows: each asks its executor, and some run code in the sandbox."""

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reason_envs.envs.prompt_templates import fill
from reason_envs.envs.workflow.budget import Budget
from reason_envs.envs.workflow.executors import Executor
from reason_envs.envs.workflow.prompts import DOMAINS, Prompts
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.rewards.code.grade import extract_code
from reason_envs.rewards.code.tests import UnitTests, read_tests, split
from reason_envs.rewards.qa import normalise_words
from reason_envs.rewards.tiers import final_answer, number
from reason_envs.sandbox import Opaque, Program, Raised, Sandbox
from reason_envs.sandbox.values import shown
from reason_envs.tasks.base import Task

MAX_ATTEMPTS = 3
"""Maximum number of attempts of Programmer and Test."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTER = re.compile(r"\b([A-Z])\b")


@dataclass(frozen=True)
class Call:
    """One call of an operator."""

    fields: Mapping[str, Any]
    """Fields that the program passed, by name."""
    ask: Callable[..., Awaitable[str]]
    """Function ``(template, **values)`` that asks the executor."""
    task: Task
    """Task that the workflow solves."""


class Operators:
    """Carries out calls of operators. All workflows share it.

    Each operator has an executor. Code runs in the sandbox, for at most ``seconds`` at a time.
    """

    def __init__(self, prompts: Prompts, executors: Mapping[str, Executor], sandbox: Sandbox, seconds: float) -> None:
        self.prompts, self.executors, self.sandbox = prompts, executors, sandbox
        self.limits = sandbox.limits_for(seconds)
        self._methods: Mapping[str, Callable[[Call], Awaitable[dict[str, Any]]]] = {
            "Custom": self._custom,
            "AnswerGenerate": self._answer_generate,
            "Programmer": self._programmer,
            "ScEnsemble": self._sc_ensemble,
            "CustomCodeGenerate": self._custom_code_generate,
            "Test": self._test,
            "Review": self._review,
            "Revise": self._revise,
        }

    async def call(
        self, name: str, fields: Mapping[str, Any], budget: Budget, number: int, task: Task
    ) -> tuple[dict[str, Any], int]:
        """Carry out one call, whose fields are already checked by ``Operator.problem_with``.

        The seed depends on the number of the call in its workflow. The budget counts the calls of executors.

        Returns:
            All outputs by name, and the number of answers of executors behind them.
        """
        asked = 0

        async def ask(template: str, **values: str) -> str:
            nonlocal asked
            asked += 1
            return await budget.ask(self.executors[name], fill(self.prompts.ask[template], **values), (number, asked))

        return await self._methods[name](Call(fields, ask, task)), asked

    async def _custom(self, call: Call) -> dict[str, Any]:
        return {"response": await call.ask("Custom", **call.fields)}

    async def _answer_generate(self, call: Call) -> dict[str, Any]:
        text = await call.ask("AnswerGenerate", **call.fields)
        answer = tagged(text, "answer")
        return {"thought": tagged(text, "thought") or "", "answer": text.strip() if answer is None else answer}

    async def _programmer(self, call: Call) -> dict[str, Any]:
        code, error = "", ""
        for attempt in range(MAX_ATTEMPTS):
            again = {"code": code, "error": error} if attempt else {}
            code = extract_code(await call.ask("ProgrammerAgain" if attempt else "Programmer", **call.fields, **again))
            outcome = await self.sandbox.run(Program(code, expressions=("solve()",), limits=self.limits))
            value = outcome.values[0] if outcome.values else None
            if outcome.status == "ok" and not isinstance(value, Raised | Opaque):
                return {"code": code, "output": shown(value, self.limits.output_bytes)}
            error = _error_of(value) or outcome.reason
        return {"code": code, "output": f"Error: {error}"}

    async def _sc_ensemble(self, call: Call) -> dict[str, Any]:
        solutions = call.fields["solutions"]
        keys = [_key(solution, domain_of(call.task)) for solution in solutions]
        (key, votes), *_ = Counter(keys).most_common(1)
        chosen = solutions[keys.index(key)]
        if votes * 2 > len(solutions):  # a majority needs no executor
            return {"response": chosen}
        listed = "\n".join(f"{letter}: {text}" for letter, text in zip(LETTERS, solutions, strict=False))
        text = await call.ask("ScEnsemble", problem=call.fields["problem"], solutions=listed)
        named = _LETTER.findall(tagged(text, "solution_letter") or text)
        place = LETTERS.index(named[-1]) if named else len(solutions)
        return {"response": solutions[place] if place < len(solutions) else chosen}

    async def _custom_code_generate(self, call: Call) -> dict[str, Any]:
        return {"response": extract_code(await call.ask("CustomCodeGenerate", **call.fields))}

    async def _test(self, call: Call) -> dict[str, Any]:
        tests = public_tests(call.task)
        solution = extract_code(call.fields["solution"])
        if tests is None:
            return {"result": False, "solution": solution}
        values = {"problem": call.fields["problem"], "entry_point": call.fields["entry_point"]}
        for _ in range(max(0, min(call.fields["test_loop"], MAX_ATTEMPTS))):
            failure = await self._failure(solution, tests)
            if failure is None:
                return {"result": True, "solution": solution}
            solution = extract_code(await call.ask("Test", **values, solution=solution, error=failure))
        return {"result": await self._failure(solution, tests) is None, "solution": solution}

    async def _failure(self, solution: str, tests: UnitTests) -> str | None:
        """Return the first public test that fails and its failure; ``None`` if none fails."""
        cases = split(tests) or []
        program = Program(tests.program(solution), "", tuple(case.expression for case in cases), self.limits)
        outcome = await self.sandbox.run(program)
        for case, statement, value in zip(cases, tests.code.split("\n"), outcome.values, strict=False):
            if not case.accepts(value):
                return f"{statement}: {_error_of(value) or f'it returned {shown(value, 200, repr)}'}"
        return outcome.reason or None if len(outcome.values) < len(cases) else None

    async def _review(self, call: Call) -> dict[str, Any]:
        text = await call.ask("Review", **call.fields)
        result = (tagged(text, "review_result") or text).strip().lower()
        return {"review_result": result.startswith("true"), "feedback": tagged(text, "feedback") or text.strip()}

    async def _revise(self, call: Call) -> dict[str, Any]:
        return {"solution": await call.ask("Revise", **call.fields)}


def domain_of(task: Task) -> str:
    """Return the domain of a task: ``metadata["domain"]``, else its part of a mixture, else ``math``.

    Raises:
        ReasonEnvsError: the domain is unknown, or is ``code`` and the task has no tests.
    """
    domain = task.metadata.get("domain")
    if domain is None:
        source = task.metadata.get("source")
        domain = source if source in DOMAINS else "math"
    if domain not in DOMAINS:
        raise unknown_name(f"domain of task {task.id!r}", str(domain), DOMAINS)
    if domain == "code" and "tests" not in task.metadata:
        raise ReasonEnvsError(f"Task {task.id!r} has domain 'code' and no tests: set metadata['tests'].")
    return domain


def tagged(text: str, tag: str) -> str | None:
    """Return the text between ``<tag>`` and ``</tag>``, or after a tag that is not closed."""
    _, opened, rest = text.partition(f"<{tag}>")
    return rest.partition(f"</{tag}>")[0].strip() if opened else None


def public_tests(task: Task) -> UnitTests | None:
    """Return the public tests of a task, which may run before the answer; ``None`` if it has no usable ones."""
    assertions = task.metadata.get("public_tests", ())
    if not assertions or "tests" not in task.metadata:
        return None
    name, full = task.metadata["entry_point"], read_tests(task.metadata["tests"])
    preamble = full.preamble if isinstance(full, UnitTests) else ""
    usable = [line for line in assertions if "\n" not in line and split(UnitTests(line, name, name)) is not None]
    return UnitTests("\n".join(usable), name, name, preamble=preamble) if usable else None


def _key(solution: str, domain: str) -> Any:
    """Return a key that is equal for solutions that agree."""
    if domain == "math":
        answer = final_answer(solution)
        value = number(answer) if answer else None
        return "".join((answer or solution).split()) if value is None else value
    return " ".join(normalise_words(solution)) if domain == "qa" else "".join(extract_code(solution).split())


def _error_of(value: Any) -> str:
    if isinstance(value, Raised):
        return value.message
    return f"{value.type} is not a plain value" if isinstance(value, Opaque) else ""
