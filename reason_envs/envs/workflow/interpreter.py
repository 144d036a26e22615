"""Interpreter of workflow programs: checks them, and runs them in monty from one suspension to the next.

A program that waits for operators does not occupy an interpreter: its state (some kilobytes) is saved, and restored
when the answers arrive. Therefore a few processes can run any number of workflows, and batching never waits for one.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pydantic_monty as monty

from reason_envs.envs.workflow.operator_signatures import CALL, COST, MAX_VALUE_BYTES, prelude, stubs
from reason_envs.rewards.code.async_cache import AsyncCache
from reason_envs.sandbox.base import SandboxConfig
from reason_envs.sandbox.monty import GUARD, MontySandbox, status_of, too_large

MAX_PRINTED_CHARS = 2**20
"""Maximum number of characters that a program may print between two suspensions."""
MAX_ERROR_CHARS = 600
"""Maximum number of characters of an error."""
_POLICY: dict[str, Any] = {"sleep": "zero", "random_start": {"seed": 0}, "datetime": datetime(2000, 1, 1)}
_MAYBE_NONE = "is not defined on `None` in union"
"""Message of the checker on ``re.search(...).group()``. It is ignored, because such code is often right."""


@dataclass(frozen=True)
class Suspension:
    """State of a suspended program: it waits for calls, has returned, or has failed."""

    waiting: Mapping[int, tuple[Any, ...]] = field(default_factory=dict)
    """Arguments of each call that the program waits for, by number."""
    state: bytes = b""
    """Saved state of a waiting program."""
    value: Any = None
    """Value that the program returned."""
    verdict: str = ""
    """Verdict: empty while the program waits, ``ok``, or the failure: ``syntax_error`` (the interpreter does not
    support the program), ``runtime_error``, ``endless``, ``memory``, ``output``, ``crashed``."""
    error: str = ""
    """Description of the failure; empty without one."""


class _Printed:
    """Counts the printed characters of a program, up to a limit."""

    def __init__(self) -> None:
        self.characters = 0

    @property
    def over(self) -> bool:
        return self.characters > MAX_PRINTED_CHARS

    def __call__(self, stream: str, text: str) -> None:
        self.characters += len(text)
        if self.over:
            raise ValueError(f"more than {MAX_PRINTED_CHARS} characters printed")


class Interpreter(MontySandbox):
    """A pool of interpreters for workflows.

    ``seconds`` limits the time of a program between two suspensions, ``memory_mb`` its memory in units of 2**20 bytes.
    """

    def __init__(self, seconds: float = 2.0, memory_mb: int = 64, workers: int | None = None) -> None:
        super().__init__(SandboxConfig(workers))
        self.limits = {
            "max_memory": memory_mb << 20,
            "max_feed_duration_secs": seconds,
            "max_turn_duration_secs": seconds,
            "max_recursion_depth": 300,
        }
        self.check = AsyncCache[str, str](lambda source: self._in_thread(self._check, source))
        """Checks the types of a program against the operators. Returns one error per line; empty if there is none."""

    async def start(self, source: str, arguments: Mapping[str, str]) -> Suspension:
        """Run a program and call its workflow with arguments, up to the first suspension."""
        call = f"{GUARD}(await Workflow('workflow', None, 'dataset')({', '.join(arguments)}))"

        def start(session: Any, printed: _Printed) -> Any:
            session.feed_run(prelude())
            snapshot = session.feed_start(source, print_callback=printed)
            snapshot = _answer(snapshot, {}, 0.0)  # a program may build its operators at module level
            if not isinstance(snapshot, monty.MontyComplete):
                return snapshot
            return session.feed_start(call, inputs=dict(arguments), print_callback=printed)

        return await self._in_thread(self._run, start, {}, 0.0)

    async def resume(self, at: Suspension, answers: Mapping[int, Any], cost: float) -> Suspension:
        """Resume a program with the answers to all calls that it waits for; exceptions are raised in the program."""
        kinds = {n: "exception" if isinstance(a, Exception) else "return_value" for n, a in answers.items()}

        def resume(session: Any, printed: _Printed) -> Any:
            snapshot = session.load_snapshot(at.state, print_callback=printed)
            return snapshot.resume({number: {kinds[number]: answer} for number, answer in answers.items()})

        return await self._in_thread(self._run, resume, dict(at.waiting), cost)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.wrap_future(self._executor.submit(function, *arguments))

    def _check(self, source: str) -> str:
        session = self._interpreters().checkout(
            limits=self.limits,
            os_policy=_POLICY,
            type_check=True,
            type_check_stubs=stubs(),
            type_check_format="concise",
        )
        try:
            with session:
                session.feed_run(source, print_callback=_Printed())
        except monty.MontyTypingError as error:
            return _readable(error.display())
        except monty.MontyError:
            return ""  # the types are right; an error of the definitions appears in the run
        return ""

    def _run(self, enter: Callable[[Any, _Printed], Any], calls: dict[int, tuple[Any, ...]], cost: float) -> Suspension:
        """Run in a new session until the program waits or ends."""
        printed = _Printed()
        session = self._interpreters().checkout(limits=self.limits, os_policy=_POLICY)
        try:
            with session:
                snapshot = _answer(enter(session, printed), calls, cost)
                if printed.over:
                    return Suspension(
                        verdict="output", error=f"The program printed more than {MAX_PRINTED_CHARS} characters."
                    )
                if isinstance(snapshot, monty.MontyComplete):
                    return Suspension(value=snapshot.output, verdict="ok")
                waiting = {number: calls.get(number, ()) for number in snapshot.pending_call_ids}
                return Suspension(waiting, snapshot.dump())
        except monty.MontyCrashedError as error:
            return Suspension(verdict="endless" if error.timed_out else "crashed", error=f"{error}"[:MAX_ERROR_CHARS])
        except monty.MontyError as error:
            return _failed(error, printed)


def _answer(snapshot: Any, calls: dict[int, tuple[Any, ...]], cost: float) -> Any:
    """Answer calls that need no executor, until the program waits for operators or ends."""
    while True:
        if isinstance(snapshot, monty.NameLookupSnapshot):
            snapshot = snapshot.resume()
        elif not isinstance(snapshot, monty.FunctionSnapshot):
            return snapshot
        elif snapshot.is_os_function:
            snapshot = snapshot.resume_not_handled()
        elif snapshot.function_name == CALL:
            calls[snapshot.call_id] = snapshot.args
            snapshot = snapshot.resume({"future": ...})
        elif snapshot.function_name == COST:
            snapshot = snapshot.resume({"return_value": cost})
        else:
            snapshot = snapshot.resume({"exception": NameError(f"name {snapshot.function_name!r} is not defined")})


def _failed(error: Any, printed: _Printed) -> Suspension:
    inner = error.exception()
    text = f"{type(inner).__name__}: {inner}"[:MAX_ERROR_CHARS]
    if isinstance(error, monty.MontyRuntimeError | monty.MontySyntaxError) and (frames := error.traceback()):
        text = f"line {frames[-1].line}: {text}"
    verdict = "syntax_error" if isinstance(inner, SyntaxError) else "runtime_error"
    verdict = {"timeout": "endless", "memory": "memory"}.get(status_of(error), verdict)
    if printed.over or str(inner) == too_large(MAX_VALUE_BYTES):
        verdict = "output"
    return Suspension(verdict=verdict, error=text)


def _readable(diagnostics: str) -> str:
    """Return the errors that would end the run, one per line, as ``line 7: ... [rule]``."""
    kept = []
    for line in diagnostics.splitlines():
        place, _, message = line.partition(": error")
        if message and _MAYBE_NONE not in message:
            rule, _, text = message.partition("] ")
            kept.append(f"line {place.split(':')[1]}: {text} {rule}]")
    return "\n".join(kept)[:MAX_ERROR_CHARS]
