"""Runs one program and serialises what its expressions evaluate to.

The text of this file is sent to where the program runs, so it imports nothing but the standard library. It shares the
interpreter with the program, which may change all of it: it can only lie about itself, as no expected value is here.
"""

import base64
import io
import json
import os
import random
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

DEEPEST = 40
"""Containers within containers that are serialised."""


def encode_value(value: Any, depth: int = 0) -> Any:
    """Return plain data as JSON that keeps Python's types; subclasses by their content, all else by the type's name.

    Types are asked of ``type``, and content of the built-in classes: the value's own methods have no say.
    """
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if depth > DEEPEST:
        return ["opaque", kind.__name__]
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, int):
        return ["int", hex(int.__index__(value))]
    if issubclass(kind, float):
        return ["float", float.hex(value)]
    if issubclass(kind, complex):
        return ["complex", float.hex(complex.__complex__(value).real), float.hex(complex.__complex__(value).imag)]
    if issubclass(kind, (bytes, bytearray)):
        return ["bytes", base64.b64encode(value).decode()]
    if issubclass(kind, dict):
        pairs = dict.items(value)
        return ["dict", [[encode_value(key, depth + 1), encode_value(item, depth + 1)] for key, item in pairs]]
    for base in (list, tuple, set, frozenset):
        if issubclass(kind, base):
            return [base.__name__, [encode_value(item, depth + 1) for item in base.__iter__(value)]]
    return ["opaque", kind.__name__]


def run_program(source: str, expressions: list[str], emit: Callable[[Any], None]) -> None:
    """Run a program, then emit ``["value", ...]`` for each expression and at last how it ended."""
    random.seed(0)  # a program that draws gives the same results at every run
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    ended: list[str] = ["ok"]
    try:
        exec(compile(source, "<program>", "exec"), module.__dict__)
    except SystemExit as leaving:
        if leaving.code not in (None, 0):
            ended = ["error", f"SystemExit: {leaving.code}"]
    except MemoryError:
        ended = ["memory"]
    except BaseException as error:  # noqa: BLE001  (whatever a program raises is its outcome)
        ended = ["error", describe(error)]
        report(error)
    for expression in expressions if ended == ["ok"] else ():
        try:
            emit(["value", encode_value(eval(expression, module.__dict__))])
        except BaseException as error:  # noqa: BLE001
            emit(["value", ["raised", type(error).__name__, describe(error)]])
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    emit(ended)


def describe(error: BaseException) -> str:
    """Return an exception as one line, whatever its class does."""
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:  # noqa: BLE001
        return type(error).__name__


def report(error: BaseException) -> None:
    """Write the traceback of the program's own lines to standard error."""
    try:
        lines = traceback.format_exception(type(error), error, error.__traceback__.tb_next)  # type: ignore[union-attr]
        sys.stderr.write("".join(lines))
    except BaseException:  # noqa: BLE001  (an exception that cannot be printed)
        sys.stderr.write(type(error).__name__)


def run_after_marker(source: str, stdin: str, expressions: list[str], marker: str) -> None:
    """Run a program in a process of its own; what it emits follows its standard output, after a marker."""
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
    emitted: list[str] = []
    run_program(source, expressions, lambda item: emitted.append(json.dumps(item)))
    sys.stdout.flush()
    os.write(1, "\n".join([marker, *emitted]).encode())
    os._exit(0)
