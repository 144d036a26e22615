"""Checks of options, written once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from reason_envs.errors import OptionError, ReasonEnvsError, did_you_mean, unknown_name


@contextmanager
def mounted(prefix: str) -> Iterator[None]:
    """Add ``prefix`` to the option that an `OptionError` raised inside names; an empty prefix adds nothing."""
    try:
        yield
    except OptionError as error:
        if not prefix:
            raise
        raise error.under(prefix) from error.__cause__


def at_least(config: Any, **minimum: float) -> None:
    """Check that options are not below their minimum; ``None`` means off and passes.

    Args:
        config: the dataclass that holds the options.
        minimum: the minimum of each option by name.

    Raises:
        OptionError: an option is below its minimum, or is not a number (NaN).
    """
    for name, smallest in minimum.items():
        value = getattr(config, name)
        if value is not None and not value >= smallest:
            raise OptionError(name, value, f"must be at least {smallest}.")


def above(config: Any, **limit: float) -> None:
    """Check that options exceed a limit; ``None`` means off and passes.

    Raises:
        OptionError: an option is at or below its limit, or is not a number (NaN).
    """
    for name, largest in limit.items():
        value = getattr(config, name)
        if value is not None and not value > largest:
            raise OptionError(name, value, f"must be above {largest}.")


def within(config: Any, low: float, high: float, *names: str) -> None:
    """Check that options lie in ``[low, high]``; ``None`` means off and passes.

    Raises:
        OptionError: an option lies outside.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            raise OptionError(name, value, f"must lie in [{low}, {high}].")


def one_of(config: Any, **choices: Iterable[str]) -> None:
    """Check that options have one of their valid values.

    Args:
        config: the dataclass that holds the options.
        choices: the valid values of each option by name.

    Raises:
        OptionError: an option has another value; the message suggests near ones.
    """
    for name, valid in choices.items():
        value = getattr(config, name)
        if value not in (names := list(valid)):
            raise OptionError(name, value, f"is unknown.{did_you_mean(str(value), names)} Valid: {', '.join(names)}.")


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
