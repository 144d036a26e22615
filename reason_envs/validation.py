"""Checks of options, and of optional packages."""

import inspect
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, Field, field, is_dataclass
from functools import partial
from importlib import util
from typing import Any, get_type_hints

import numpy as np

from reason_envs.errors import REQUIRED, OptionError, ReasonEnvsError, did_you_mean
from reason_envs.resources import read_table

PORT = r"[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5]"
HTTP_URL = re.compile(rf"(?i)https?://([\w.-]+|\[[\w:.%]+\])(:({PORT}))?(/[!-~]*)?")
"""Pattern of the addresses of servers."""
EXTRAS: Mapping[str, Mapping[str, str]] = read_table(__file__, "extras.yaml")
"""Modules that the library imports from each extra, with the names of their distributions."""


def require(part: str, extra: str, otherwise: str = "") -> None:
    """Raise a `ReasonEnvsError` if a package of the extra of a part is missing; ``otherwise`` ends the message."""
    for module, package in EXTRAS[extra].items():
        if getattr(util.find_spec(module), "origin", None) is None:  # a folder named like the package has no origin
            pins = "" if extra in ("openenv", "verifiers", "vllm") else "-c constraints.txt "  # need others
            fix = f"pip install 'reason-envs[{extra}]' (in a checkout: pip install {pins}-e '.[{extra}]'){otherwise}"
            raise ReasonEnvsError(f"{part} needs {package}, which is not installed: {fix}.")


@contextmanager
def mounted(prefix: str) -> Iterator[None]:
    """Prefix the option in each `OptionError` that is raised inside the context. An empty prefix changes nothing."""
    try:
        yield
    except OptionError as error:
        if not prefix:
            raise
        raise error.under(prefix) from error.__cause__


def _check_each(holds: Callable[[Any, Any], bool], rule: str, config: Any, **limits: Any) -> None:
    """Raise an `OptionError` if an option that is not ``None`` breaks the rule with its limit, given by name."""
    for name, limit in limits.items():
        value = getattr(config, name)
        if value is not None and not holds(value, limit):
            raise OptionError(name, value, rule.format(limit))


at_least = partial(_check_each, operator.ge, "must be at least {}.")
"""Checks that options of a dataclass are not below their minimum, given by name. ``None`` passes.

Raises:
    OptionError: an option is below its minimum, or is not a number (NaN).
"""
above = partial(_check_each, operator.gt, "must be above {}.")
"""Checks that options exceed a limit, given by name. ``None`` passes.

Raises:
    OptionError: an option is at or below its limit, or is not a number (NaN).
"""
within = partial(_check_each, lambda value, ends: ends[0] <= value <= ends[1], "must lie in [{0[0]}, {0[1]}].")
"""Checks that options lie between two ends, ``(low, high)``, given by name. ``None`` passes.

Raises:
    OptionError: an option lies outside.
"""


def one_of(config: Any, **choices: Iterable[str]) -> None:
    """Check that options of a dataclass have one of their valid values, given by name.

    Raises:
        OptionError: an option has another value; the message suggests near ones.
    """
    for name, valid in choices.items():
        check_choice(name, getattr(config, name), valid)


def limited(default: Any, **limits: Any) -> Any:
    """Return a field of a `Checked` dataclass with limits ``at_least``, ``above``, ``one_of``, ``within``."""
    return field(default=default, metadata=limits)


class Checked:
    """Base of dataclasses whose options are checked by the limits of their fields. Overridden fields keep theirs."""

    def __post_init__(self) -> None:
        known: dict[str, Mapping[str, Any]] = {}
        for owner in reversed(type(self).__mro__):
            known |= {name: f.metadata for name, f in vars(owner).get("__dataclass_fields__", {}).items() if f.metadata}
        for name, limits in known.items():
            for kind, limit in limits.items():
                _RULES[kind](self, **{name: limit})


_RULES: dict[str, Callable[..., None]] = {"at_least": at_least, "above": above, "within": within, "one_of": one_of}


def check_choice(option: str, value: Any, valid: Iterable[str]) -> None:
    """Check that one option has one of its valid values.

    Raises:
        OptionError: the value is another one; the message suggests near ones.
    """
    if value not in (names := list(valid)):
        raise OptionError(option, value, f"is unknown.{did_you_mean(str(value), names)} Valid: {', '.join(names)}.")


def check_whole(arguments: Iterable[str]) -> None:
    """Raise if the shell has split an argument at a space, so that a bracket is not closed."""
    for argument in arguments:
        for opening, closing in ("{}", "[]"):
            if argument.count(opening) > argument.count(closing):
                raise ReasonEnvsError(
                    f"Cannot read {argument!r}: {opening!r} is not closed; quote the whole argument once, so that the "
                    f"shell keeps its spaces, as in '{argument} ...{closing}'."
                )


def default_of(option: Field[Any]) -> Any:
    """Return the default of a dataclass's field, made anew by its factory; ``MISSING`` if it has none."""
    return option.default if option.default_factory is MISSING else option.default_factory()


Option = inspect.Parameter
"""An option of a part: ``default`` (``REQUIRED`` if it must be given) and ``annotation`` (``Any`` if there is none)."""


def options_of(target: Any, positional: int = 0) -> dict[str, Option]:
    """Return the options of a dataclass, class or function by name: the parameters that can be passed by keyword.

    Args:
        target: the dataclass, class, function or other callable.
        positional: number of leading parameters to leave out.
    """
    if inspect.isclass(target):
        owner = target if is_dataclass(target) else target.__init__
    else:
        owner = target if inspect.isroutine(target) else type(target).__call__
    types: dict[str, Any] = {}
    with suppress(NameError):  # some annotations have names that only a type checker imports
        types = get_type_hints(owner)
    parameters = [
        p for p in inspect.signature(target).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    return {p.name: p.replace(annotation=types.get(p.name, Any)) for p in parameters[positional:]}


def check_options(owner: str, given: Mapping[str, Any], valid: Mapping[str, Option], hint: str = "") -> None:
    """Check names and types of options. ``owner`` names their part; ``hint`` ends the message about a missing one.

    Raises:
        OptionError: an option does not exist, is missing, or has a value of the wrong type.
    """
    for name, value in given.items():
        if name not in valid:
            near = did_you_mean(name, valid)
            rule = f"is not an option of {owner}.{near} Valid: {', '.join(sorted(valid)) or 'no options'}."
            raise OptionError(name, value, rule)
    for name, option in valid.items():
        if name not in given and option.default is REQUIRED:
            raise OptionError(name, REQUIRED, f"must be given: {owner} has no default for it.{hint}")
    for name, value in given.items():
        _check_type(owner, name, value, valid[name])


def _check_type(owner: str, name: str, value: Any, option: Option) -> None:
    """Raise if a value does not match its annotation. NumPy numbers count as Python's, and lists as tuples."""
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    plain = value.item() if isinstance(value, np.generic) else value
    try:
        check = TypeAdapter(option.annotation).validate_python
        try:
            check(plain, strict=True)
        except ValidationError:
            if not isinstance(plain, list):
                raise
            check(tuple(plain), strict=True)
    except PydanticUserError:  # a class that pydantic cannot check
        return
    except ValidationError:
        kind = option.annotation
        wanted = kind.__name__ if isinstance(kind, type) else str(kind)
        wanted = wanted.replace("collections.abc.", "")
        such = f", such as {option.default!r}" if isinstance(option.default, int | float | str) else ""
        raise OptionError(name, value, f"must be of type {wanted}{such} ({owner}).") from None
