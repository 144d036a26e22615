"""The sandbox that runs small Python programs in the Monty interpreter, on every platform.

Monty is a separate implementation of Python in Rust. It has no files, network, processes or environment variables. It
supports neither inheritance nor generators, and only a small part of the standard library. A program that needs more
ends with the status ``error`` and a message that names the missing feature.
"""

import ctypes
import json
import os
import secrets
from contextlib import suppress
from importlib.metadata import distribution
from string import Template
from threading import Timer
from time import monotonic
from typing import Any

from pydantic_monty import Monty, MontyConversionError, MontyCrashedError, MontyRuntimeError, MontySyntaxError

from reason_envs.errors import EngineError
from reason_envs.resources import read_table
from reason_envs.sandbox.base import Outcome, Program, Sandbox, SandboxConfig, Status
from reason_envs.sandbox.runner import MAX_DEPTH, encode_value
from reason_envs.sandbox.values import Raised, decode_value, without_surrogates

GUARD = f"guard_{secrets.token_hex(8)}"
"""Name of the function that `guard` defines. Programs cannot know it, so they cannot replace it."""
END = f"end_{secrets.token_hex(8)}"
"""Name of the function that raises ``EOFError``, which programs in Monty cannot name."""
GRACE = 0.4
"""Time in seconds after a limit until the interpreter is killed, and until a thread watches the limit of all pieces."""
_ERRORS = (MontySyntaxError, MontyRuntimeError, MontyConversionError)  # those of a program
_CODE = read_table(__file__, "monty_code.yaml")
_started_in: dict[str, int] = {}
"""The process whose threads run the interpreters, once there is one."""


def guard(limit: int) -> str:
    """Return the definition of ``GUARD``, which copies plain data up to a size in bytes, inside the interpreter.

    A value that leaves the interpreter is written out whole, also where its parts are shared, and instances with all
    their attributes. Therefore larger values are refused there, and values that are not plain data become ``...``.
    """
    names = {"guard": GUARD, "limit": limit, "bits": min(4 * limit, 2**16), "depth": MAX_DEPTH}
    return Template(_CODE["guard"]).substitute(names, message=too_large(limit))


def too_large(limit: int) -> str:
    """Return the message about a value of more than ``limit`` bytes."""
    return f"more than {limit} bytes of output"


class MontySandbox(Sandbox):
    """Runs small programs on every platform. ``input()`` reads the lines of standard input."""

    _monty: Any = None

    def __init__(self, config: SandboxConfig | None = None) -> None:
        config = config or SandboxConfig()
        super().__init__(config.workers, config.output_bytes)

    def execute(self, program: Program) -> Outcome:
        """Run a program in a new session."""
        run, seconds = _Run(program), program.limits.seconds
        session = self._interpreters().checkout(
            limits={"max_memory": program.limits.memory_mb << 20, "max_feed_duration_secs": seconds},
            os_policy={"sleep": "zero", "random_start": {"seed": 0}},
        )
        try:
            with session:
                return run.finish(session)
        except MontyCrashedError as error:
            ended: Status = "timeout" if monotonic() - run.start > seconds else "killed"
            return run.outcome(ended if status_of(error) == "error" else status_of(error), str(error)[:300])
        finally:
            if run.watchdog:
                run.watchdog.cancel()

    def _end_processes(self) -> None:
        if self._monty is not None:
            self._monty.__exit__(None, None, None)
            self._monty = None

    def _start_over(self) -> None:
        super()._start_over()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._monty))  # its destructor ends the parent's interpreters
        self._monty = None

    def _interpreters(self) -> Any:
        with self._lock:
            if _started_in.setdefault("process", os.getpid()) != os.getpid():
                raise EngineError(
                    f"Process {os.getpid()} was forked from {_started_in['process']} after that had run a program in "
                    "the sandbox monty, whose threads do not survive a fork. Start processes with the method 'spawn', "
                    "or use another sandbox."
                )
            if self._monty is None:
                # The interpreter is in its package, which may be installed outside of this environment.
                files = distribution("pydantic-monty-runtime").files or ()
                own = next((str(file.locate()) for file in files if file.stem == "monty"), None)
                path = os.environ.get("MONTY_BIN") or own
                pool = Monty(binary_path=path, max_processes=self.workers, feed_duration_limit_grace=GRACE)
                self._monty = pool.__enter__()
            return self._monty


class _Run:
    """A running program with its output and values so far."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.start = monotonic()
        self.printed = {"stdout": "", "stderr": ""}
        self.values: list[Any] = []
        self.lines = without_surrogates(program.stdin).splitlines()
        self.over: Outcome | None = None
        self.watchdog: Timer | None = None

    def finish(self, session: Any) -> Outcome:
        """Run the program, then evaluate each expression."""
        try:
            if definitions := self.definitions():
                self.feed(session, definitions)
            self.run_source(session)
            for expression in self.program.expressions:
                left = self.program.limits.seconds - (elapsed := monotonic() - self.start)
                if left < 0:
                    return self.outcome("timeout", f"more than {self.program.limits.seconds:g} seconds")
                if elapsed > GRACE and not self.watchdog:
                    self.watchdog = Timer(left + GRACE, os.kill, [session.worker_pid, 9])
                    self.watchdog.start()
                if self.over is None:
                    self.values.append(self.evaluate(session, expression))
        except _ERRORS as error:
            return self.over or self.outcome(status_of(error), _describe(error))
        return self.over or self.outcome("ok", "")

    def definitions(self) -> str:
        """Return the code of the functions that the program needs."""
        text = "\n".join([self.program.source, *self.program.expressions])
        parts = [Template(_CODE["input"]).substitute(end=END)] if "input" in text else []
        parts += [_CODE["exit"]] if "exit" in text or "quit" in text else []
        parts += [guard(self.program.limits.output_bytes)] if self.program.expressions else []
        return "".join(parts)

    def run_source(self, session: Any) -> None:
        """Run the program. It may end with ``exit()``, ``quit()`` or ``raise SystemExit``."""
        try:
            self.feed(session, self.program.source)
        except _ERRORS as error:
            if type(error.exception()) is not SystemExit or str(error.exception()):
                raise

    def evaluate(self, session: Any, expression: str) -> Any:
        """Return the value of an expression as plain data."""
        try:
            encoded = encode_value(self.feed(session, f"{GUARD}((\n{expression}\n))"))
        except _ERRORS as error:
            if status_of(error) != "error":
                raise
            limit = self.program.limits.output_bytes
            if str(error.exception()) == too_large(limit):
                self.over = self.outcome("output", too_large(limit))
            return Raised(type(error.exception()).__name__, _describe(error))
        with suppress(EngineError):  # recorded in self.over: no further expression is evaluated
            self.check_size(len(json.dumps(encoded)))
        return decode_value(encoded)

    def feed(self, session: Any, code: str) -> Any:
        """Run one piece of code in the session."""
        names = {END: _end_of_input, f"{END}_lines": self.lines}
        return session.feed_run(code, print_callback=self.take, external_lookup=names)

    def take(self, stream: str, text: str) -> None:
        """Store printed text. Above the limit ``print`` raises, and the outcome is ``output`` in any case."""
        self.printed[stream] += text
        self.check_size(len(self.printed[stream]))

    def check_size(self, size: int) -> None:
        """Raise if an output exceeds its limit, and record that outcome."""
        limit = self.program.limits.output_bytes
        if size > limit:
            self.printed = {stream: text[:limit] for stream, text in self.printed.items()}
            self.over = self.outcome("output", too_large(limit))
            raise EngineError(self.over.reason)

    def outcome(self, status: Status, reason: str) -> Outcome:
        """Return the outcome with this status."""
        values = tuple(self.values)
        return Outcome(status, self.printed["stdout"], self.printed["stderr"], values, monotonic() - self.start, reason)


def _end_of_input() -> None:
    raise EOFError("EOF when reading a line")


def status_of(error: Any) -> Status:
    """Return the status of a program that raised this error of the interpreter."""
    kind = type(error.exception())
    if kind is TimeoutError and "time limit exceeded" in str(error):
        return "timeout"
    return "memory" if kind is MemoryError else "error"


def _describe(error: Any) -> str:
    return f"{type(error.exception()).__name__}: {error.exception()}"[:300]
