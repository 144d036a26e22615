"""Finding answers in written solutions: pure functions on strings."""

from __future__ import annotations

import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_CALCULATION = re.compile(r"<<[^<>]*>>")
NUMBER = r"[-+]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
"""Pattern of a plain decimal number, with thousands commas or without."""
_PLAIN = re.compile(rf"{NUMBER}\.?")


def last_boxed(text: str) -> str | None:
    r"""Return what the last ``\boxed{...}`` (or ``\fbox{...}``) of a text holds.

    Nested braces belong to the content and escaped ones (``\{``, ``\}``) do not count; of boxes within boxes
    the innermost of the last is read. Surrounding white space is stripped, so an empty box gives ``""``.

    Returns:
        The content, or ``None`` when there is no box or the last one is never closed.
    """
    start = None
    for match in _BOX.finditer(text):
        start = match.end()
    if start is None:
        return None
    depth, position = 1, start
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1  # whatever is escaped opens and closes nothing
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return text[start:position].strip()
        position += 1
    return None


def after_hashes(text: str) -> str | None:
    """Return what follows the last ``####`` on its line, as GSM8K marks answers, or ``None``."""
    _, marker, tail = text.rpartition("####")
    answer = tail.lstrip(" \t").split("\n", 1)[0].strip()
    return answer if marker and answer else None


def strip_calculations(solution: str) -> str:
    """Remove GSM8K's calculator annotations: ``2*3=<<2*3=6>>6`` becomes ``2*3=6``."""
    return _CALCULATION.sub("", solution)


def normalise_number(answer: str) -> str:
    """Write a plain decimal number without thousands commas or a zero fraction; anything else is unchanged.

    ``"1,200"`` becomes ``"1200"``, ``"27.0"`` becomes ``"27"``, and ``"(1,200)"`` stays what it is.
    """
    if not _PLAIN.fullmatch(answer):
        return answer
    return re.sub(r"\.0*$", "", answer.replace(",", "").removesuffix("."))
