"""Errors that name the value, the rule and the fix."""

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gymnasium.error import ResetNeeded

REQUIRED = inspect.Parameter.empty
"""Stands for the default of an option that must be given, and for the value of one that is missing."""


def printable(text: str) -> str:
    """Show characters as escapes if they control a terminal, reverse its text, or cannot be encoded."""
    commands = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
    return re.sub(commands, lambda match: ascii(match[0])[1:-1], text)


class ReasonEnvsError(ValueError):
    """Base of the errors that this library raises. Control characters in their messages are shown as escapes."""

    def __str__(self) -> str:
        return printable(super().__str__())


class OptionError(ReasonEnvsError):
    """An option has a value that its rule does not allow.

    A part names its own field only. The code that mounts the part adds the prefix with
    `reason_envs.validation.mounted`, so the message names the option as the user wrote it.

    Args:
        field: the option, such as ``"max_tokens"``.
        value: its value; ``REQUIRED`` if it is missing.
        rule: the rest of the sentence: what is wrong and how to fix it, such as ``"must be at least 1."``.
    """

    def __init__(self, field: str, value: Any, rule: str) -> None:
        self.field, self.value, self.rule = field, value, rule
        super().__init__(f"{field} {rule}" if value is REQUIRED else f"{field}={value!r} {rule}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.field, self.value, self.rule)

    def under(self, prefix: str) -> "OptionError":
        """Return the same error for the option ``prefix.field``."""
        return OptionError(f"{prefix}.{self.field}", self.value, self.rule)


class EngineError(ReasonEnvsError):
    """An engine does not support a request, or its server failed."""


class NoEpisodeError(ReasonEnvsError, ResetNeeded):
    """An episode is needed, but none has started or the last one has ended."""

    def __init__(self, problem: str = "No episode has started: call reset first.") -> None:
        super().__init__(problem)


class RewardError(ReasonEnvsError):
    """A reward function raised an exception. Training leaves the episode out, and counts and reports it."""


class RunError(ReasonEnvsError):
    """A run, or the folder of a run, cannot be used or continued."""


@contextmanager
def reading(place: Path | str, fix: str) -> Iterator[None]:
    """Raise a `RunError` with the place and the fix if code in this context fails on the contents of a file."""
    try:
        yield
    except (ReasonEnvsError, MemoryError):
        raise
    except Exception as error:
        raise RunError(f"{place} cannot be used ({type(error).__name__}: {first_line(error)[:200]}). {fix}") from error


OWN_PART = "For a part of another module write module:name."
"""How to name a part that no installed package registers."""


def unknown_name(kind: str, name: str, valid: Iterable[str], fix: str = "") -> ReasonEnvsError:
    """Build the error for an unknown name of a kind, such as ``"task family"``.

    It suggests near names, lists the valid ones (up to 40), and ends with another sentence about the ``fix``.
    """
    names = sorted(valid)
    listed = ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
    hint = did_you_mean(name, names)
    return ReasonEnvsError(f"Unknown {kind} {name!r}.{hint} Valid: {listed}.{f' {fix}' if fix else ''}")


RENAMED = {"draws": "seed_scope", "split_by": "holdout", "allow_weaker": "require"}
"""New name of each option that was renamed."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return a sentence with the new name or near names, after a space; empty if there is none."""
    names = list(valid)
    prefix, dot, option = name.rpartition(".")
    new = f"{prefix}{dot}{RENAMED.get(option, option)}"
    if new in names:
        return f" It has a new name: {new!r}."
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


def shortened(value: Any) -> str:
    """Return a value in one line of at most 80 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message, or the name of its class if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
