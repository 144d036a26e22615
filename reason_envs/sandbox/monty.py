"""Runs small Python programs in the monty interpreter, on every platform.

Monty is a Python of its own, written in Rust: files, network, processes and the environment do not exist in it. It has
no inheritance, no generators and little of the standard library; a program that needs more ends with an ``error``
that says so.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import distribution
from time import monotonic
from typing import Any

from reason_envs.errors import ReasonEnvsError
from reason_envs.sandbox.base import Outcome, Program, Sandbox, Status
from reason_envs.sandbox.runner import encode_value
from reason_envs.sandbox.values import Raised, decode_value


@dataclass
class MontyConfig:
    """Options of the monty sandbox."""

    workers: int | None = None
    """Most programs at once; ``None``: the number of processors."""


class MontySandbox(Sandbox):
    """Small programs, anywhere; ``input()`` reads the lines of the standard input."""

    def __init__(self, config: MontyConfig | None = None) -> None:
        super().__init__((config or MontyConfig()).workers)

    def execute(self, program: Program) -> Outcome:
        """Run a program in a session of its own."""
        import pydantic_monty

        run = _Run(program)
        limits = program.limits
        session = self._interpreters().checkout(
            limits={"max_memory": limits.memory_mb << 20, "max_feed_duration_secs": limits.seconds},
            os_policy={"sleep": "zero", "random_start": {"seed": 0}},
        )
        try:
            with session:
                return run.finish(session)
        except pydantic_monty.MontyCrashedError as error:
            return run.outcome("timeout" if error.timed_out else "killed", f"the interpreter ended: {error}"[:300])

    def close(self) -> None:
        """End the interpreters."""
        super().close()
        if self._monty is not None:
            self._monty.__exit__(None, None, None)
        self._start_over()

    def _start_over(self) -> None:
        super()._start_over()
        self._monty: Any = None

    def _interpreters(self) -> Any:
        from pydantic_monty import Monty

        with self._lock:
            if self._monty is None:
                self._monty = Monty(binary_path=_interpreter(), max_processes=self.workers).__enter__()
            return self._monty


class _Run:
    """One program: what it printed and evaluated so far."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.start = monotonic()
        self.printed = {"stdout": "", "stderr": ""}
        self.values: list[Any] = []
        self.lines = iter(program.stdin.splitlines())
        self.over: Outcome | None = None

    def finish(self, session: Any) -> Outcome:
        """Run the program, then each expression."""
        from pydantic_monty import MontyError

        try:
            self.feed(session, self.program.source)
            for expression in self.program.expressions:
                if monotonic() - self.start > self.program.limits.seconds:
                    return self.outcome("timeout", f"more than {self.program.limits.seconds:g} seconds")
                if self.over is None:
                    self.values.append(self.evaluate(session, expression))
        except MontyError as error:
            return self.over or self.outcome(_status(error), _describe(error))
        return self.over or self.outcome("ok", "")

    def evaluate(self, session: Any, expression: str) -> Any:
        """Return the value of an expression as plain data."""
        from pydantic_monty import MontyError

        try:
            encoded = encode_value(self.feed(session, expression))
        except MontyError as error:
            if _status(error) != "error":
                raise
            return Raised(type(error.exception()).__name__, _describe(error))
        with suppress(ReasonEnvsError):  # noted; nothing more is evaluated
            self.check_size(len(json.dumps(encoded)))
        return decode_value(encoded)

    def feed(self, session: Any, code: str) -> Any:
        """Run one piece of code in the session."""
        return session.feed_run(code, print_callback=self.take, external_lookup={"input": self.read_line})

    def take(self, stream: str, text: str) -> None:
        """Keep what the program prints, as much as it may; more makes ``print`` raise, whoever catches that."""
        self.printed[stream] += text
        self.check_size(len(self.printed[stream]))

    def check_size(self, size: int) -> None:
        """Note, and raise, that an output is larger than it may be."""
        most = self.program.limits.output_bytes
        if size > most:
            self.printed = {stream: text[:most] for stream, text in self.printed.items()}
            self.over = self.outcome("output", f"more than {most} bytes of output")
            raise ReasonEnvsError(self.over.reason)

    def read_line(self, prompt: str = "") -> str:
        """Be the program's ``input``."""
        self.take("stdout", prompt)
        try:
            return next(self.lines)
        except StopIteration:
            raise EOFError("EOF when reading a line") from None

    def outcome(self, status: Status, reason: str) -> Outcome:
        """Build the outcome."""
        values = tuple(self.values)
        return Outcome(status, self.printed["stdout"], self.printed["stderr"], values, monotonic() - self.start, reason)


def _interpreter() -> str | None:
    """Return where the package put its interpreter, which need not be this environment's own folder of scripts."""
    if set_by_hand := os.environ.get("MONTY_BIN"):
        return set_by_hand
    files = distribution("pydantic-monty-runtime").files or ()
    return next((str(file.locate()) for file in files if file.stem == "monty"), None)


def _status(error: Any) -> Status:
    kind = type(error.exception())
    if kind is TimeoutError and "time limit exceeded" in str(error):
        return "timeout"
    return "memory" if kind is MemoryError else "error"


def _describe(error: Any) -> str:
    return f"{type(error.exception()).__name__}: {error.exception()}"[:300]
