"""Execution of a workflow: check it, run it from one suspension to the next, and record the calls of its operators."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from reason_envs.batching import gather
from reason_envs.envs.workflow.budget import Budget, Usage, WorkflowAborted
from reason_envs.envs.workflow.interpreter import Interpreter, Suspension
from reason_envs.envs.workflow.operator_signatures import OPERATORS
from reason_envs.envs.workflow.operators import Operators
from reason_envs.envs.workflow.repair import Prepared, prepare
from reason_envs.rewards.tiers import OperatorOutput
from reason_envs.sandbox.values import shown, without_surrogates
from reason_envs.tasks.base import Task
from reason_envs.views import CallView

MAX_ANSWER_CHARS = 50_000
"""Maximum number of characters of an answer."""


@dataclass
class Outcome:
    """Outcome of a workflow."""

    program: Prepared
    """Program of the workflow."""
    used: Usage
    """Usage of the executors."""
    verdict: str = ""
    """Verdict: ``ok``, or the reason that there is no answer."""
    error: str = ""
    """Description of what is wrong; empty if the verdict is ``ok``."""
    answer: str = ""
    """Answer that the workflow returned; empty without one."""
    calls: list[CallView] = field(default_factory=list)
    """Calls of operators in order."""
    grounded: list[OperatorOutput] = field(default_factory=list)
    """Outputs of grounded operators (see `OperatorOutput`)."""


async def run_workflow(
    response: str, task: Task, interpreter: Interpreter, operators: Operators, budget: Budget
) -> Outcome:
    """Run the workflow in a response. Every failure becomes a verdict, except that of an executor."""
    outcome = Outcome(prepare(without_surrogates(response)), budget.used)
    outcome.verdict, outcome.error = outcome.program.verdict, outcome.program.error
    if outcome.verdict:
        return outcome
    outcome.error = await interpreter.check(outcome.program.source)
    if outcome.error:
        outcome.verdict = "type_error"
        return outcome
    try:
        end = await _run_to_end(outcome, task, interpreter, operators, budget)
        outcome.verdict, outcome.error = end.verdict, end.error
        if end.verdict == "ok":
            _read_answer(outcome, end.value)
    except WorkflowAborted as aborted:
        outcome.verdict, outcome.error = aborted.verdict, aborted.error
    return outcome


async def _run_to_end(
    outcome: Outcome, task: Task, interpreter: Interpreter, operators: Operators, budget: Budget
) -> Suspension:
    entry_point = str(task.metadata.get("entry_point", ""))
    known = {"problem": without_surrogates(task.question), "entry_point": entry_point, "question_id": task.id}
    arguments = dict(list(known.items())[: outcome.program.parameters])
    at = await interpreter.start(outcome.program.source, arguments)
    first = 0
    while not at.verdict:
        numbers = sorted(at.waiting)
        calls = (_call(at.waiting[n], first + place, task, operators, budget) for place, n in enumerate(numbers))
        answers = await gather(*calls)
        results: dict[int, Any] = {}
        for number, answer in zip(numbers, answers, strict=True):
            results[number] = answer if isinstance(answer, Exception) else dict(answer[0].outputs)
            if not isinstance(answer, Exception):
                _record(*answer, outcome, arguments["problem"])
        first += len(numbers)
        budget.seconds_left()
        at = await interpreter.resume(at, results, budget.used.cost)
    return at


async def _call(
    arguments: Sequence[Any], number: int, task: Task, operators: Operators, budget: Budget
) -> tuple[CallView, int] | Exception:
    """Carry out one call of an operator; return it, and the number of answers of executors behind its outputs.

    A malformed call raises an exception in the program.
    """
    name = arguments[0] if len(arguments) == 2 else None
    if not isinstance(name, str) or name not in OPERATORS:
        return NameError(f"operator {shown(name, 80, repr)} does not exist")
    problem = OPERATORS[name].problem_with(arguments[1])
    if problem is not None:
        return TypeError(f"{name}: {problem}")
    outputs, asked = await operators.call(name, arguments[1], budget, number, task)
    return CallView(name, arguments[1], outputs), asked


def _record(call: CallView, asked: int, outcome: Outcome, problem: str) -> None:
    """Record a call, and its output if it is grounded.

    Text that the program added to the input does not count as output when the operator returns it, as an ensemble does.
    """
    outcome.calls.append(call)
    passed = [text for value in call.inputs.values() for text in (value if isinstance(value, list) else [str(value)])]
    earlier = [text for output in outcome.grounded for text in output.fields if text.strip()]
    if not any(known in text for text in passed for known in (problem, *earlier)):
        return
    own = {"".join(text.split()) for text in passed if not any(text in known for known in earlier)}
    texts = [str(value) for value in call.outputs.values() if not isinstance(value, bool)]
    if not asked:  # no model wrote it now, so one must have written it before, whatever wrapping the program added
        texts = [text for text in texts if any("".join(text.split()) in "".join(known.split()) for known in earlier)]
    fields = tuple(text for text in texts if "".join(text.split()) not in own)
    if fields:
        added = "\n".join(passed)
        for known in sorted([problem, *earlier], key=len, reverse=True):
            added = added.replace(known, " ")
        outcome.grounded.append(OperatorOutput(fields, added))


def _read_answer(outcome: Outcome, value: Any) -> None:
    """Read the pair (answer, cost) that programs of AFlow return."""
    answer = value[0] if isinstance(value, tuple) and len(value) == 2 else None
    if not isinstance(answer, str | int | float) or isinstance(value[1], str):
        outcome.verdict = "bad_result"
        outcome.error = f"__call__ must return (answer, cost) with a text or number, not {shown(value, 200, repr)}"
    elif len(text := shown(answer, MAX_ANSWER_CHARS + 1)) > MAX_ANSWER_CHARS:
        outcome.verdict, outcome.error = "bad_result", f"The answer has more than {MAX_ANSWER_CHARS} characters."
    else:
        outcome.answer = text
