"""Helpers of the commands: ``name=value`` arguments, the lists of ``--help``, and errors without tracebacks."""

import ast
import errno
import inspect
import json
import os
import re
import shlex
import shutil
import signal
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import distributions
from itertools import pairwise
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reason_envs.errors import ReasonEnvsError, printable, unknown_name
from reason_envs.validation import check_whole

Config = TypeVar("Config")
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.ENOENT, errno.EACCES, errno.EROFS, errno.EIO, errno.ESTALE}
"""Errors of a full, removed, forbidden or broken disk or folder."""
HELP = {"-h", "--help"}
"""Arguments that ask a command for its options."""
_COLUMN = 36
"""Column at which the meanings start in a list of options."""
_WIDTHS = 80, 120
"""Minimum and maximum width of a list of options, whatever the width of the terminal."""
_QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
"""Environment variables that silence other libraries in a command. Values of the user take precedence."""


def parse_pairs(schema: type[Config], arguments: Sequence[str], description: str) -> Config:
    """Fill a dataclass from ``name=value`` arguments. ``--help`` prints the description and the options.

    Raises:
        ReasonEnvsError: an option is unknown or its value is invalid.
        SystemExit: after ``--help``.
    """
    defaults = OmegaConf.structured(schema)
    if HELP & set(arguments):
        print_help(description.strip().replace("``", ""), "\nOptions and defaults:", list_options(defaults))
        raise SystemExit(0)
    names = [field.name for field in fields(schema)]  # type: ignore[arg-type]
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if not equals:
            check_whole(arguments)
            raise ReasonEnvsError(f"{argument!r} is not of the form name=value (see --help).")
        if name not in names:
            raise unknown_name("option", name, names)
    try:
        merged: Any = OmegaConf.to_object(OmegaConf.merge(defaults, OmegaConf.from_dotlist(list(arguments))))
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        check_whole(arguments)
        raise bad_value(error, " ".join(arguments)) from error
    return merged


def list_options(options: DictConfig, indent: str = "") -> str:
    """Return the options of a dataclass as YAML: each with its value, and its meaning as a comment."""
    lines = []
    meanings = _meanings(OmegaConf.get_type(options) or object)
    values: Any = OmegaConf.to_container(options, resolve=True)
    for name, value in values.items():
        nested = is_dataclass(OmegaConf.get_type(options, name)) and value is not None
        lines += _commented(f"{indent}{name}:{'' if nested else _flow(value)}", meanings.get(name, ""))
        if nested:
            lines.append(list_options(options[name], indent + "  "))
    return "\n".join(lines)


def list_first(options: DictConfig, keys: Sequence[str]) -> str:
    """Return the options ``keys`` as a user types them, each with its meaning. Unknown keys are left out."""
    lines = []
    for key in keys:
        path, _, name = key.rpartition(".")
        owner = OmegaConf.select(options, path) if path else options
        if owner is not None and name in owner:
            values: Any = OmegaConf.to_container(owner, resolve=True)
            value = values[name]["name"] if is_dataclass(OmegaConf.get_type(owner, name)) else values[name]
            meaning = _meanings(OmegaConf.get_type(owner) or object).get(name, "")
            lines += _commented(shlex.quote(f"{key}={_flow(value).strip()}"), meaning)
    return "\n".join(lines)


def print_help(*parts: str) -> None:
    """Print the parts of a help text. A reader that ends early, such as ``head``, is not an error."""
    try:
        print(*parts, sep="\n", flush=True)
    except BrokenPipeError:
        os._exit(0)


def wrapped(text: str, indent: str = "  ", room: int = 0) -> str:
    """Wrap a text to the width of the terminal, within limits, less ``room`` columns."""
    width = min(max(shutil.get_terminal_size((_WIDTHS[1], 0)).columns, _WIDTHS[0]), _WIDTHS[1])
    return textwrap.fill(text, width - room, subsequent_indent=indent, break_on_hyphens=False)


def _flow(value: Any) -> str:
    """Return a value as YAML on one line, after a space."""
    text = yaml.safe_dump({"_": value}, default_flow_style=True, width=sys.maxsize).strip()[len("{_:") : -1]
    return f" {json.dumps(value)}" if "\n" in text else text


def _commented(option: str, meaning: str) -> list[str]:
    """Return the lines of an option with its meaning beside it, or below it if the option is too long."""
    lines = wrapped(meaning, "", _COLUMN + 2).splitlines()
    if not lines or len(option) >= _COLUMN:
        lines.insert(0, "")
    heads = [option, *[""] * (len(lines) - 1)]
    return [f"{head:<{_COLUMN}}# {text}" if text else head for head, text in zip(heads, lines, strict=True)]


def _meanings(schema: type) -> dict[str, str]:
    """Return the first sentence of the docstring under each field of a dataclass, inherited fields included."""
    found = {}
    for owner in reversed(schema.__mro__):
        try:
            (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        except (OSError, TypeError):  # built in, or made at run time
            continue
        for entry, below in pairwise(definition.body if isinstance(definition, ast.ClassDef) else ()):
            match entry, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = re.split(r"(?<=\.) (?=[A-Z])", " ".join(text.replace("``", "").split()))[0]
    return found


@cache
def warn_of_other_agents() -> None:
    """Print a warning, once, if another installed distribution provides a top-level package ``agents`` too."""
    # Reading the lists of files as text takes a third of the time of importlib.metadata.packages_distributions.
    others = sorted(
        distribution.metadata["Name"]
        for distribution in distributions()
        if "\nagents/__init__.py," in f"\n{distribution.read_text('RECORD') or ''}"
        and distribution.metadata["Name"] != "reason-envs"
    )
    if others:
        names = " ".join(others)
        print(
            f"warning: {names} also provides a package named agents, which can replace or hide files of this one: run "
            f"`pip uninstall {names}` and reinstall reason-envs, or use separate virtual environments.",
            file=sys.stderr,
        )


@contextmanager
def report_errors() -> Iterator[None]:
    """Print errors of this library, and of a disk, as one message on standard error, and exit with status 2.

    Other libraries are silenced by `_QUIET`.
    """
    os.environ.update({**_QUIET, **os.environ})
    warn_of_other_agents()
    try:
        yield
    except ReasonEnvsError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        fix = "Check the folder and the space on its disk, then repeat the command (a run: with resume=)."
        print(f"error: {printable(str(error))}. {fix}", file=sys.stderr)
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    else:
        return
    raise SystemExit(2)


def escaped(value: Any) -> Any:
    """Escape ``${`` in texts, so that OmegaConf does not read it as a reference to another option."""
    if isinstance(value, Mapping):
        return {key: escaped(item) for key, item in value.items()}
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value
    return [*map(escaped, value)] if isinstance(value, list | tuple) else text


def quoted(text: str) -> str:
    """Write a text in the grammar of overrides."""
    return '"' + re.sub(r"(\\*)(\"|$)", r"\1\1\2", escaped(text)).replace('"', '\\"') + '"'


def bad_value(error: BaseException, otherwise: str) -> ReasonEnvsError:
    """Return the error for a value that OmegaConf or YAML refuse; ``otherwise`` names it if their error has no key."""
    is_mapping = re.search(r"merge[\s\S]*object_type=(?!list)", str(error))
    kind = "mapping, such as '{a: 1}'" if is_mapping else "list, such as '[a, b]'"
    reason = re.sub(".* ListConfig.*", f"it must be a {kind}", str(error).strip().splitlines()[0])
    if "Interpolation" in reason:
        reason += r""". To write ${ in a text, quote it and add a backslash, as in 'KEY="\${x}"'"""
    return ReasonEnvsError(f"Bad value of {refused_key(error) or otherwise}: {reason.rstrip('.')}.")


def refused_key(error: BaseException) -> str:
    """Return the key that an error of OmegaConf contains; empty if it contains none."""
    facts = str(error).splitlines()
    return next((fact.split(":", 1)[1].strip() for fact in facts if "full_key:" in fact), "")
