"""Errors that name the value, the rule and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np


class ReasonEnvsError(ValueError):
    """Base of the errors this library raises on wrong input."""


OWN_PART = "A module of yours that registers one is named before it: module:name."
"""What to do where a part is none of ours and not installed."""


def unknown_name(kind: str, name: str, valid: Iterable[str], fix: str = "") -> ReasonEnvsError:
    """Build the error for an unknown name, with the nearest valid ones first.

    Args:
        kind: what the name should have been, such as ``"task family"``.
        name: what was given.
        valid: every accepted name.
        fix: what else to do about it.
    """
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return ReasonEnvsError(f"Unknown {kind} {name!r}.{hint} Valid: {', '.join(names)}.{f' {fix}' if fix else ''}")


def check_whole(arguments: Iterable[str]) -> None:
    """Raise the error for the first argument of a command that the shell has cut at a space."""
    for argument in arguments:
        for opening, closing in ("{}", "[]"):
            if argument.count(opening) > argument.count(closing):
                raise ReasonEnvsError(
                    f"Cannot read {argument!r}, whose {opening!r} is not closed: quote the whole argument once, so "
                    f"that the shell keeps its spaces, as in '{argument} ...{closing}'."
                )


def check_options(kind: str, given: Iterable[Any], valid: Iterable[str]) -> None:
    """Raise the error for the first given option that ``kind`` does not have."""
    names = list(valid)
    for option in given:
        if option not in names:
            raise unknown_name(f"option of {kind}", str(option), names)


def check_type(owner: str, option: str, value: Any, wanted: Any, default: Any = None) -> None:
    """Raise the error for an option's value that is not of the annotated type; NumPy's numbers count as Python's.

    Args:
        owner: what has the option, such as ``"task family 'gcd'"``.
        option: its name.
        value: what was given.
        wanted: the annotation; one whose class says nothing about what it accepts is not checked.
        default: told as an example.
    """
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    plain = value.item() if isinstance(value, np.generic) else value
    try:
        TypeAdapter(wanted).validate_python(plain, strict=True)
    except PydanticUserError:
        return
    except ValidationError:
        kind = wanted.__name__ if isinstance(wanted, type) else str(wanted).replace("collections.abc.", "")
        such = f", such as {default!r}" if isinstance(default, int | float | str) else ""
        raise ReasonEnvsError(f"{option}={value!r} is of the wrong type: {owner} takes {kind} there{such}.") from None
