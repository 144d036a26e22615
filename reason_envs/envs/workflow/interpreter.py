"""Checks workflow programs and runs them in the monty interpreter, from one operator call to the next.

While a program waits for operators no interpreter is occupied: its state is written out (some kilobytes) and read back
in when the answers are there. So any number of workflows can be under way on a few processes, and the scheduler of
batches never waits for one of them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from reason_envs.envs.workflow.operator_signatures import CALL, COST, prelude, stubs
from reason_envs.sandbox.monty import MontyConfig, MontySandbox

PRINTED = 2**20
"""Most characters that a program may print between two stops; more ends it."""
REMEMBERED = 4096
"""Programs whose check is remembered."""
SHOWN = 600
"""Most characters of an error."""
_POLICY: dict[str, Any] = {"sleep": "zero", "random_start": {"seed": 0}, "datetime": datetime(2000, 1, 1)}
_MAYBE_NONE = "is not defined on `None` in union"
"""What the checker says of ``re.search(...).group()``, which is right often enough to be run."""


@dataclass(frozen=True)
class Stop:
    """Why a program stopped: it waits for calls, has returned, or has failed."""

    waiting: Mapping[int, tuple[Any, ...]] = field(default_factory=dict)
    """The arguments of each operator call that it waits for."""
    state: bytes = b""
    """Its state while it waits."""
    value: Any = None
    """What it returned."""
    verdict: str = ""
    """Empty while it waits; ``ok``, or the failure: ``syntax_error`` (the interpreter lacks something),
    ``runtime_error``, ``endless``, ``memory``, ``output``, ``crashed``."""
    error: str = ""
    """What failed."""


class Interpreter(MontySandbox):
    """A pool of interpreters for workflows.

    Args:
        seconds: computing time of a program between two stops.
        memory_mb: memory of a program, in units of 2**20 bytes.
        workers: processes; ``None`` takes the number of processors.
    """

    def __init__(self, seconds: float = 2.0, memory_mb: int = 64, workers: int | None = None) -> None:
        super().__init__(MontyConfig(workers))
        self.limits = {
            "max_memory": memory_mb << 20,
            "max_feed_duration_secs": seconds,
            "max_turn_duration_secs": seconds,
            "max_recursion_depth": 300,
        }

    def _start_over(self) -> None:
        super()._start_over()
        self._checks: OrderedDict[str, Future[str]] = OrderedDict()

    async def check(self, source: str) -> str:
        """Check a program's types against the operators; return the errors, a line each, or "" where there are none."""
        if source not in self._checks:
            self._checks[source] = self._executor.submit(self._check, source)
            if len(self._checks) > REMEMBERED:
                self._checks.popitem(last=False)
        # Shielded: others may wait for the same check.
        return await asyncio.shield(asyncio.wrap_future(self._checks[source]))

    async def start(self, source: str, arguments: Mapping[str, str], cost: float = 0.0) -> Stop:
        """Run a program, and call its workflow with arguments, up to its first stop."""
        return await self._in_thread(self._start, source, arguments, cost)

    async def go_on(self, stop: Stop, answers: Mapping[int, Any], cost: float) -> Stop:
        """Run on with the answers to every call that was waited for; an exception is raised in the program."""
        return await self._in_thread(self._go_on, stop, answers, cost)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.wrap_future(self._executor.submit(function, *arguments))

    def _check(self, source: str) -> str:
        from pydantic_monty import MontyError, MontyTypingError

        session = self._interpreters().checkout(
            limits=self.limits,
            os_policy=_POLICY,
            type_check=True,
            type_check_stubs=_stubs(),
            type_check_format="concise",
        )
        try:
            with session:
                session.feed_run(source, print_callback=_Printed())
        except MontyTypingError as error:
            return _readable(error.display())
        except MontyError:
            return ""  # its types are right, and what its definitions do is the run's affair
        return ""

    def _start(self, source: str, arguments: Mapping[str, str], cost: float) -> Stop:
        call = f"await Workflow('workflow', None, 'dataset')({', '.join(arguments)})"

        def begin(session: Any, printed: _Printed) -> Any:
            session.feed_run(_prelude())
            snapshot = session.feed_start(source, print_callback=printed)
            snapshot = _answer(snapshot, {}, cost)  # a program may build its operators at the top
            if not _is_complete(snapshot):
                return snapshot
            return session.feed_start(call, inputs=dict(arguments), print_callback=printed)

        return self._run(begin, {}, cost)

    def _go_on(self, stop: Stop, answers: Mapping[int, Any], cost: float) -> Stop:
        def resume(session: Any, printed: _Printed) -> Any:
            snapshot = session.load_snapshot(stop.state, print_callback=printed)
            return snapshot.resume({number: _result(answer) for number, answer in answers.items()})

        return self._run(resume, dict(stop.waiting), cost)

    def _run(self, begin: Callable[[Any, _Printed], Any], calls: dict[int, tuple[Any, ...]], cost: float) -> Stop:
        """Run in a session of its own until the program waits or ends."""
        from pydantic_monty import MontyCrashedError, MontyError

        printed = _Printed()
        session = self._interpreters().checkout(limits=self.limits, os_policy=_POLICY)
        try:
            with session:
                snapshot = _answer(begin(session, printed), calls, cost)
                if printed.over:
                    return Stop(verdict="output", error=f"The program printed more than {PRINTED} characters.")
                if _is_complete(snapshot):
                    return Stop(value=snapshot.output, verdict="ok")
                waiting = {number: calls.get(number, ()) for number in snapshot.pending_call_ids}
                return Stop(waiting, snapshot.dump())
        except MontyCrashedError as error:
            return Stop(verdict="endless" if error.timed_out else "crashed", error=f"{error}"[:SHOWN])
        except MontyError as error:
            return _failed(error, printed)


class _Printed:
    """Swallows what a program prints, up to a limit."""

    def __init__(self) -> None:
        self.characters = 0

    @property
    def over(self) -> bool:
        return self.characters > PRINTED

    def __call__(self, stream: str, text: str) -> None:
        self.characters += len(text)
        if self.over:
            raise ValueError(f"more than {PRINTED} characters printed")


def _answer(snapshot: Any, calls: dict[int, tuple[Any, ...]], cost: float) -> Any:
    """Answer what needs no executor; return when the program waits for operators or has ended."""
    from pydantic_monty import FunctionSnapshot, NameLookupSnapshot

    while True:
        if isinstance(snapshot, NameLookupSnapshot):
            snapshot = snapshot.resume()
        elif not isinstance(snapshot, FunctionSnapshot):
            return snapshot
        elif snapshot.is_os_function:
            snapshot = snapshot.resume_not_handled()
        elif snapshot.function_name == CALL:
            calls[snapshot.call_id] = snapshot.args
            snapshot = snapshot.resume({"future": ...})
        elif snapshot.function_name == COST:
            snapshot = snapshot.resume({"return_value": cost})
        else:
            unknown = NameError(f"name {snapshot.function_name!r} is not defined")
            snapshot = snapshot.resume({"exception": unknown})


def _result(answer: Any) -> dict[str, Any]:
    return {"exception": answer} if isinstance(answer, Exception) else {"return_value": answer}


def _is_complete(snapshot: Any) -> bool:
    from pydantic_monty import MontyComplete

    return isinstance(snapshot, MontyComplete)


def _failed(error: Any, printed: _Printed) -> Stop:
    inner = error.exception()
    text = f"{type(inner).__name__}: {inner}"[:SHOWN]
    frames: list[Any] = getattr(error, "traceback", list)()
    if frames:
        text = f"line {frames[-1].line}: {text}"
    if printed.over:
        verdict = "output"
    elif isinstance(inner, TimeoutError) and "time limit exceeded" in str(error):
        verdict = "endless"
    elif isinstance(inner, MemoryError):
        verdict = "memory"
    elif isinstance(inner, SyntaxError):
        verdict = "syntax_error"
    else:
        verdict = "runtime_error"
    return Stop(verdict=verdict, error=text)


def _readable(diagnostics: str) -> str:
    """Return the errors that would end the run, a line each, as ``line 7: ... [rule]``."""
    kept = []
    for line in diagnostics.splitlines():
        place, _, message = line.partition(": error")
        if message and _MAYBE_NONE not in message:
            rule, _, text = message.partition("] ")
            kept.append(f"line {place.split(':')[1]}: {text} {rule}]")
    return "\n".join(kept)[:SHOWN]


@cache
def _stubs() -> str:
    return stubs()


@cache
def _prelude() -> str:
    return prelude()
