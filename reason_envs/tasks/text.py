"""Pure functions that find answers in written solutions."""

import ast
import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|(?P<bare>(?:[-+\d\\(.]|[A-Za-z]\b)(?:[^\s${}]|\{[^{}]*\})*))")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BLANK = re.compile(
    r"(?:[\s$~{}]|\\(?:[!,;: ()$]|\[|\]|(?:boxed|fbox|text|mathrm|mbox|left|right|q?quad)(?![a-zA-Z])))*+"
)
_THOUGHT = re.compile(r"<think>.*?(?:</think>|$)", re.DOTALL)
_CALCULATION = re.compile(r"<<[^<>]*>>")
NUMBER = r"[-+]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
"""Pattern of a plain decimal number, with or without thousands separators."""
_PLAIN = re.compile(rf"{NUMBER}\.?")


def last_boxed(text: str) -> str | None:
    r"""Return the content of the last ``\boxed{...}`` (or ``\fbox{...}``) of a text.

    Nested braces belong to the content. Escaped braces (``\{``, ``\}``) open and close nothing. If boxes are nested,
    the one that starts last is read. White space around the content is removed, so an empty box gives ``""``. ``None``:
    the text has no box, or the last one is not closed.
    """
    box = last_box(text)
    return box[2] if box else None


def last_box(text: str, before: int | None = None) -> tuple[int, int, str] | None:
    """Return start, end and content of the last box that starts before a position (default: the end of the text)."""
    match, start = None, len(text) if before is None else before
    while match is None:
        start = max(text.rfind("\\boxed", 0, start), text.rfind("\\fbox", 0, start))
        if start < 0:
            return None
        match = _BOX.match(text, start)
    if match["bare"]:
        return start, match.end(), match["bare"]
    depth = 1
    for brace in _BRACE.finditer(text, match.end()):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return start, brace.end(), text[match.end() : brace.start()].strip()
    return None


def without_thoughts(text: str) -> str:
    """Remove ``<think>`` blocks, also one that is not closed, and all text before a ``</think>`` without a start."""
    return _THOUGHT.sub("", text).rpartition("</think>")[2] if "think>" in text else text


def is_blank(answer: str) -> bool:
    r"""Return whether an answer has only white space and LaTeX that prints nothing, such as ``$ $`` or ``\boxed{}``."""
    return _BLANK.fullmatch(answer) is not None


def is_python(text: str) -> bool:
    """Return whether a text is a program that Python can parse."""
    try:
        compile(text, "<response>", "exec", flags=ast.PyCF_ONLY_AST)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def after_hashes(text: str) -> str | None:
    """Return the text after the last ``####`` on its line, where GSM8K has the answer, or ``None``."""
    _, marker, tail = text.rpartition("####")
    answer = tail.lstrip(" \t").split("\n", 1)[0].strip()
    return answer if marker and answer else None


def strip_calculations(solution: str) -> str:
    """Remove the calculator annotations of GSM8K: ``2*3=<<2*3=6>>6`` becomes ``2*3=6``."""
    return _CALCULATION.sub("", solution)


def normalise_number(answer: str) -> str:
    """Remove thousands separators and a zero fraction from a plain decimal number. Other texts are unchanged.

    ``"1,200"`` becomes ``"1200"``, ``"27.0"`` becomes ``"27"``, and ``"(1,200)"`` stays the same.
    """
    if not _PLAIN.fullmatch(answer):
        return answer
    return re.sub(r"\.0*$", "", answer.replace(",", "").removesuffix("."))
