"""Runs one program and serialises the values of its expressions.

The text of this file is sent to the place where the program runs, so it imports only the standard library. It shares
the interpreter with the program. The program may change everything here and forge its own results, but there are no
expected values here that it could read.
"""

import base64
import builtins
import gc
import io
import json
import os
import random
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any

MAX_DEPTH = 40
"""Maximum depth of nested containers that are serialised."""
MAX_PARTS = 2**20
"""Maximum number of parts of a value that are serialised; a part that is shared counts each time."""


def encode_value(value: Any, depth: int = 0, room: Iterator[int] | None = None) -> Any:
    """Encode a value as JSON that preserves Python's types.

    Instances of subclasses are encoded by their content, and values that are not plain data by the name of their type.
    Only ``type`` and methods of built-in classes are used, never methods of the value.
    """
    kind, room = type(value), iter(range(MAX_PARTS)) if room is None else room
    if next(room, None) is None:
        raise MemoryError(f"a value has more than {MAX_PARTS} parts")
    if value is None or kind in (bool, str):
        return value
    if depth > MAX_DEPTH:
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
        return ["dict", [[encode_value(part, depth + 1, room) for part in pair] for pair in pairs]]
    for base in (list, tuple, set, frozenset):
        if issubclass(kind, base):
            return [base.__name__, [encode_value(item, depth + 1, room) for item in base.__iter__(value)]]
    return ["opaque", kind.__name__]


def run_program(source: str, expressions: list[str], emit: Callable[[Any], None]) -> None:
    """Run a program, then emit ``["value", ...]`` for each expression, and finally how the program ended."""
    random.seed(0)  # a program with random numbers has the same results in every run
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # site, which defines them, is not loaded everywhere
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
    except BaseException as error:  # noqa: BLE001  (any exception is an outcome)
        ended = ["error", describe(error)]
        report(error)
    for expression in expressions if ended == ["ok"] else ():
        try:
            value = eval(expression, module.__dict__)
            gc.disable()  # encoding creates no cycles, and collections would take most of its time
            emit(["value", encode_value(value)])
        except BaseException as error:  # noqa: BLE001
            emit(["value", ["raised", type(error).__name__, describe(error)]])
        gc.enable()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    emit(ended)


def describe(error: BaseException) -> str:
    """Return an exception in one line, even if its class is broken."""
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:  # noqa: BLE001
        return type(error).__name__


def report(error: BaseException) -> None:
    """Write the traceback, without the frames of this file, to standard error."""
    try:
        lines = traceback.format_exception(type(error), error, error.__traceback__.tb_next)  # type: ignore[union-attr]
        sys.stderr.write("".join(lines))
    except BaseException:  # noqa: BLE001  (an exception that cannot be printed)
        sys.stderr.write(type(error).__name__)


def run_after_marker(source: str, stdin: str, expressions: list[str], marker: str) -> None:
    """Run a program and end the process. Its results follow its standard output after a marker."""
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
    emitted: list[str] = []
    run_program(source, expressions, lambda item: emitted.append(json.dumps(item)))
    sys.stdout.flush()
    os.write(1, "\n".join([marker, *emitted]).encode())
    os._exit(0)
