"""One workflow from its text to its answer: check it, run it from stop to stop, and note what its operators said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reason_envs.batching import gather
from reason_envs.envs.workflow.budget import Budget, EndedError, clean
from reason_envs.envs.workflow.interpreter import Interpreter, Stop
from reason_envs.envs.workflow.operator_signatures import OPERATORS
from reason_envs.envs.workflow.operators import Operators
from reason_envs.envs.workflow.repair import Prepared, prepare
from reason_envs.rewards.tiers import OperatorOutput
from reason_envs.tasks.base import Task

MOST_CHARS = 50_000
"""Longest answer in characters."""


@dataclass(frozen=True)
class OperatorCall:
    """A call that was carried out."""

    operator: str
    """Its class name."""
    fields: Mapping[str, Any]
    """What the program gave it."""
    outputs: Mapping[str, Any]
    """What it returned."""


@dataclass
class Outcome:
    """What became of a workflow."""

    program: Prepared
    """What was run."""
    verdict: str = ""
    """``ok``, or why there is no answer."""
    error: str = ""
    """What is wrong with it."""
    answer: str = ""
    """What it returned."""
    calls: list[OperatorCall] = field(default_factory=list)
    """Its operator calls, in order."""
    grounded: list[OperatorOutput] = field(default_factory=list)
    """Outputs of grounded operators (see `OperatorOutput`)."""
    executor_calls: int = 0
    """Calls of executors."""
    generated_tokens: int = 0
    """By executors."""
    prompt_tokens: int = 0
    """Read by executors."""
    cost: float = 0.0
    """By their prices."""


async def run_workflow(
    response: str, task: Task, domain: str, interpreter: Interpreter, operators: Operators, budget: Budget
) -> Outcome:
    """Run the workflow of a response; whatever it does becomes a verdict."""
    outcome = Outcome(prepare(clean(response)))
    outcome.verdict, outcome.error = outcome.program.verdict, outcome.program.error
    if outcome.verdict:
        return outcome
    outcome.error = await interpreter.check(outcome.program.source)
    if outcome.error:
        outcome.verdict = "type_error"
        return outcome
    try:
        stop = await _to_the_end(outcome, task, domain, interpreter, operators, budget)
        outcome.verdict, outcome.error = stop.verdict, stop.error
        if stop.verdict == "ok":
            _read_answer(outcome, stop.value)
    except EndedError as ended:
        outcome.verdict, outcome.error = ended.verdict, ended.error
    outcome.executor_calls, outcome.cost = budget.calls, budget.cost
    outcome.generated_tokens, outcome.prompt_tokens = budget.generated_tokens, budget.prompt_tokens
    return outcome


async def _to_the_end(
    outcome: Outcome, task: Task, domain: str, interpreter: Interpreter, operators: Operators, budget: Budget
) -> Stop:
    arguments = {"problem": clean(task.question)}
    if outcome.program.takes_entry_point:
        arguments["entry_point"] = str(task.metadata.get("entry_point", ""))
    stop = await interpreter.start(outcome.program.source, arguments)
    first = 0
    while not stop.verdict:
        numbers = sorted(stop.waiting)
        answers = await gather(
            *(
                _call(stop.waiting[number], first + place, outcome, task, domain, operators, budget)
                for place, number in enumerate(numbers)
            )
        )
        for answer in answers:
            if isinstance(answer, OperatorCall):
                _note(answer, outcome, arguments["problem"])
        results = {
            n: dict(a.outputs) if isinstance(a, OperatorCall) else a for n, a in zip(numbers, answers, strict=True)
        }
        first += len(numbers)
        budget.seconds_left()
        stop = await interpreter.go_on(stop, results, budget.cost)
    return stop


async def _call(
    arguments: Sequence[Any],
    number: int,
    outcome: Outcome,
    task: Task,
    domain: str,
    operators: Operators,
    budget: Budget,
) -> OperatorCall | Exception:
    """Carry out one operator call; one that is malformed raises in the program."""
    name = arguments[0] if len(arguments) == 2 else None
    if not isinstance(name, str) or name not in OPERATORS:
        return NameError(f"there is no operator {name!r:.80}")
    problem = OPERATORS[name].problem_with(arguments[1])
    if problem is not None:
        return TypeError(f"{name}: {problem}")
    outputs = await operators.call(name, arguments[1], budget, number, task, domain)
    return OperatorCall(name, arguments[1], outputs)


def _note(call: OperatorCall, outcome: Outcome, problem: str) -> None:
    """Record a call, and its output if it is grounded.

    Text that the program added to the input does not count as output when the operator returns it, as an ensemble does.
    """
    outcome.calls.append(call)
    given = [text for value in call.fields.values() for text in (value if isinstance(value, list) else [str(value)])]
    earlier = [text for output in outcome.grounded for text in output.fields if text.strip()]
    if not any(known in text for text in given for known in (problem, *earlier)):
        return
    own = {"".join(text.split()) for text in given if not any(text in known for known in earlier)}
    texts = [str(value) for value in call.outputs.values() if not isinstance(value, bool)]
    fields = tuple(text for text in texts if "".join(text.split()) not in own)
    if fields:
        outcome.grounded.append(OperatorOutput(fields, _without("\n".join(given), [problem, *earlier])))


def _without(text: str, known: Sequence[str]) -> str:
    for part in sorted(known, key=len, reverse=True):
        text = text.replace(part, " ")
    return text


def _read_answer(outcome: Outcome, value: Any) -> None:
    """Read (answer, cost) as AFlow's programs return it."""
    answer = value[0] if isinstance(value, tuple) and len(value) == 2 else None
    if not isinstance(answer, str | int | float) or isinstance(value[1], str):
        outcome.verdict = "bad_result"
        outcome.error = f"__call__ must return (answer, cost) with a text or number, not {value!r:.200}"
    elif len(str(answer)) > MOST_CHARS:
        outcome.verdict, outcome.error = "bad_result", f"The answer has more than {MOST_CHARS} characters."
    else:
        outcome.answer = clean(str(answer))
