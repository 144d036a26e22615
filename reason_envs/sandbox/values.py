"""Values that a program sends back: read strictly, as data and nothing else."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reason_envs.sandbox.base import Outcome, Status
from reason_envs.sandbox.runner import DEEPEST

SHORT_INTEGER = 10**18
"""Larger ones are written in base 16: Python limits the digits of decimal ones."""


@dataclass(frozen=True)
class Opaque:
    """Stands for a value that is no plain data; equal to no plain data."""

    type: str
    """The name of its class, as the program tells it."""


@dataclass(frozen=True)
class Raised:
    """Stands for the value of an expression that raised."""

    type: str
    """The name of the exception's class."""
    message: str
    """The exception as one line."""


_DECODERS: dict[str, Callable[..., Any]] = {
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "complex": lambda real, imaginary: complex(float.fromhex(real), float.fromhex(imaginary)),
    "bytes": lambda text: base64.b64decode(text, validate=True),
    "list": lambda items: [decode_value(item) for item in items],
    "tuple": lambda items: tuple(decode_value(item) for item in items),
    "set": lambda items: {decode_value(item) for item in items},
    "frozenset": lambda items: frozenset(decode_value(item) for item in items),
    "dict": lambda pairs: {decode_value(key): decode_value(value) for key, value in pairs},
    "opaque": lambda name: Opaque(_text(name)),
    "raised": lambda name, message: Raised(_text(name), _text(message)),
}


def decode_value(encoded: Any) -> Any:
    """Return the value that ``encode_value`` wrote; anything it cannot have written raises ``ValueError``."""
    if encoded is None or isinstance(encoded, (bool, str)):
        return encoded
    if not isinstance(encoded, list) or not encoded or encoded[0] not in _DECODERS:
        raise ValueError(f"{encoded!r:.80} is no serialised value")
    return _DECODERS[encoded[0]](*encoded[1:])


def read_results(text: str) -> tuple[list[Any], list[str] | None]:
    """Return the values in the lines a program emitted, and how it says it ended (``None``: it did not say).

    Raises:
        ValueError: the lines are not what the runner writes, so the program wrote them itself.
    """
    values: list[Any] = []
    try:
        for line in text.split("\n"):
            item = json.loads(line) if line else ["value"]
            if item[0] != "value":
                return values, [_text(part) for part in item]
            if line:
                values.append(decode_value(item[1]))
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise ValueError(f"malformed ({error})"[:200]) from error
    return values, None


def finished(results: str, stdout: str, stderr: str, seconds: float, why_unsaid: str) -> Outcome:
    """Build the outcome of a program that ended within its limits, from the lines it emitted.

    Args:
        results: the lines.
        stdout: what it printed.
        stderr: what it wrote to standard error.
        seconds: how long it took.
        why_unsaid: the reason to give where the program did not reach its end.
    """
    try:
        values, ended = read_results(results)
    except ValueError as error:
        return Outcome("error", stdout, stderr, (), seconds, f"the program wrote into its results: {error}")
    status: Status = "killed"
    reason = why_unsaid
    if ended is not None:
        status = ended[0] if ended[0] in ("ok", "error", "memory") else "error"  # type: ignore[assignment]
        reason = "" if status == "ok" else ended[1] if len(ended) > 1 else "MemoryError"
    return Outcome(status, stdout, stderr, tuple(values), seconds, reason)


def literal(value: Any, depth: int = 0) -> str:
    """Return plain data as an expression that evaluates to it.

    Raises:
        ValueError: it is no plain data, or nested deeper than Python's parser follows.
    """
    if depth > DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} deep")
    if isinstance(value, (float, complex)) and not _is_finite(value):
        return f"{type(value).__name__}({str(value)!r})"
    if type(value) is int and abs(value) > SHORT_INTEGER:
        return hex(value)
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    if isinstance(value, dict):
        pairs = [f"{literal(key, depth + 1)}: {literal(item, depth + 1)}" for key, item in value.items()]
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, (list, tuple, set, frozenset)):
        items = "".join(f"{literal(item, depth + 1)}, " for item in value)
        return f"[{items}]" if isinstance(value, list) else f"{type(value).__name__}([{items}])"
    raise ValueError(f"{value!r:.80} is no plain data")


def _is_finite(value: complex) -> bool:
    return math.isfinite(value.real) and math.isfinite(value.imag)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.80} is no text")
    return value
