"""Strict decoding of the values that a program returns."""

import base64
import cmath
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reason_envs.sandbox.base import Outcome, Status
from reason_envs.sandbox.runner import MAX_DEPTH

SHORT_INTEGER = 10**18
"""Integers above this are written in base 16, because Python limits the length of decimal integers."""


@dataclass(frozen=True)
class Opaque:
    """Placeholder for a value that is not plain data. It never equals plain data."""

    type: str
    """Name of the class, as reported by the program."""


@dataclass(frozen=True)
class Raised:
    """Placeholder for the value of an expression that raised an exception."""

    type: str
    """Name of the exception's class."""
    message: str
    """Exception in one line."""


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
    """Return the value that ``encode_value`` encoded.

    Raises:
        ValueError: ``encode_value`` cannot have written this.
    """
    if encoded is None or isinstance(encoded, (bool, str)):
        return encoded
    if not isinstance(encoded, list) or not encoded or encoded[0] not in _DECODERS:
        raise ValueError(f"{encoded!r:.80} is not a serialised value")
    return _DECODERS[encoded[0]](*encoded[1:])


def read_results(text: str) -> tuple[list[Any], list[str] | None]:
    """Return the values in the lines that the runner emitted, and how the program ended (``None``: that line lacks).

    Raises:
        ValueError: the runner cannot have written these lines, so the program wrote them.
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


def finished(results: str, stdout: str, stderr: str, seconds: float, why_incomplete: str) -> Outcome:
    """Return the outcome of a program that ended within its limits from the lines that the runner emitted.

    ``why_incomplete`` is the reason of the outcome if the results are incomplete.
    """
    try:
        values, ended = read_results(results)
    except ValueError as error:
        return Outcome("error", stdout, stderr, (), seconds, f"the program wrote into its results: {error}")
    status: Status = "killed"
    reason = why_incomplete
    if ended is not None:
        status = ended[0] if ended[0] in ("ok", "error", "memory") else "error"  # type: ignore[assignment]
        reason = "" if status == "ok" else ended[1] if len(ended) > 1 else "MemoryError"
    return Outcome(status, stdout, stderr, tuple(values), seconds, reason)


def shown(value: Any, limit: int, write: Callable[[Any], str] = str) -> str:
    """Return a program's value as text of at most ``limit`` characters, by ``str`` or ``repr``, without errors."""
    try:
        text = write(value)
    except ValueError:  # Python refuses to write integers of more than 4,300 digits in decimal
        text = hex(value) if isinstance(value, int) else f"a {type(value).__name__} with a number of too many digits"
    return without_surrogates(text[:limit])


def without_surrogates(text: str) -> str:
    """Replace lone surrogates, which are not valid Unicode and break tokenizers, files and sandboxes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def literal(value: Any, depth: int = 0) -> str:
    """Return plain data as a Python expression.

    Raises:
        ValueError: the value is not plain data, or is nested too deeply.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, (float, complex)) and not cmath.isfinite(value):
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
    raise ValueError(f"{value!r:.80} is not plain data")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.80} is not text")
    return without_surrogates(value)
