"""Small helpers of the commands: ``name=value`` arguments and errors without tracebacks."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reason_envs.errors import ReasonEnvsError, unknown_name

Config = TypeVar("Config")


def parse_pairs(schema: type[Config], arguments: Sequence[str], description: str) -> Config:
    """Fill a dataclass from ``name=value`` arguments; ``--help`` prints the description and the defaults.

    Raises:
        ReasonEnvsError: an unknown name or a value of the wrong type.
    """
    defaults = OmegaConf.structured(schema)
    if {"-h", "--help"} & set(arguments):
        print(description.strip(), "\n\nOptions and defaults:\n", OmegaConf.to_yaml(defaults), sep="")
        raise SystemExit(0)
    names = [field.name for field in fields(schema)]  # type: ignore[arg-type]
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if not equals:
            raise ReasonEnvsError(f"{argument!r} is not of the form name=value (see --help).")
        if name not in names:
            raise unknown_name("option", name, names)
    try:
        merged: Any = OmegaConf.to_object(OmegaConf.merge(defaults, OmegaConf.from_dotlist(list(arguments))))
    except OmegaConfBaseException as error:
        raise ReasonEnvsError(str(error).splitlines()[0]) from error
    return merged


@contextmanager
def report_errors() -> Iterator[None]:
    """Print the library's own errors and a full disk as one message on standard error; exit with status 2."""
    try:
        yield
    except ReasonEnvsError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"error: {error}. Free disk space, then go on (a run: from its last checkpoint).", file=sys.stderr)
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    else:
        return
    raise SystemExit(2)
