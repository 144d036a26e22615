"""Parts by name: one `Registry` for each kind of part, such as engines, tasks, environments or algorithms.

`Registry.make` builds a part from a name, ``"module:name"``, or a mapping with ``name`` and options. It returns an
object as it is. Options are checked before anything is built, in the same way in Python and on the command line.

Installed packages add parts without being imported by the user. An entry point in the group of a kind, such as
``reason_envs.engines``, names a function without arguments that registers the parts.
"""

import argparse
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from types import ModuleType
from typing import Any, Generic, Self, TypeVar

from reason_envs.errors import OWN_PART, ReasonEnvsError, unknown_name
from reason_envs.resources import read_table
from reason_envs.validation import Option, check_options, check_whole, options_of

T = TypeVar("T")
_loaded: set[str | EntryPoint] = set()
"""Entry points that have registered their parts, and groups in which all have."""


def load_attribute(path: str) -> Any:
    """Import the object that ``"package.module:name"`` names."""
    module, name = _import_module(path)
    if not hasattr(module, name):
        raise unknown_name(f"name in module {module.__name__}", name, _public_names(module))
    return getattr(module, name)


def command_parser(module: str, name: str) -> argparse.ArgumentParser:
    """Build the parser of a command from the YAML file ``name`` beside a module, whose ``__file__`` is given.

    It has options of ``ArgumentParser``, ``arguments`` by name, and perhaps ``commands``: subcommands by name with
    the same entries. The name of the chosen one is ``command``.
    """
    layout = argparse.RawDescriptionHelpFormatter
    return _filled(partial(argparse.ArgumentParser, formatter_class=layout), read_table(module, name))


def _filled(make: Callable[..., argparse.ArgumentParser], table: dict[str, Any]) -> argparse.ArgumentParser:
    arguments, commands = table.pop("arguments", {}), table.pop("commands", {})
    parser = make(**table)
    for name, options in arguments.items():
        number = {"type": {"int": int, "float": float}[options["type"]]} if "type" in options else {}
        parser.add_argument(name, **{**options, **number})
    if commands:
        added = parser.add_subparsers(dest="command", required=True, metavar=" | ".join(commands))
        for name, entries in commands.items():
            _filled(partial(added.add_parser, name), entries)
    return parser


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` options from a command line. Values are YAML; ``a.b=x`` sets ``b`` in the mapping ``a``."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for pair in pairs:
        if "=" not in pair:
            check_whole(pairs)
            raise ReasonEnvsError(f"Cannot read the option {pair!r}: write key=value, such as max_terms=4.")
    try:
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist(list(pairs)))
    except (OmegaConfBaseException, YAMLError, ValueError, IndexError, RecursionError) as error:
        check_whole(pairs)
        raise ReasonEnvsError(f"Cannot read the options {' '.join(pairs)}: {error}") from error
    return {str(key): value for key, value in parsed.items()} if isinstance(parsed, dict) else {}


def load_plugins(group: str) -> None:
    """Let installed packages register the parts of an entry-point group. Later calls return at once.

    Raises:
        ReasonEnvsError: an entry point cannot be loaded. Every call raises until its package is fixed.
    """
    if group in _loaded:
        return
    _loaded.add(group)  # before the calls: registering looks names up
    try:
        for point in entry_points(group=group):
            if point in _loaded:
                continue
            try:
                point.load()()
            except (ImportError, AttributeError, ReasonEnvsError) as error:
                raise ReasonEnvsError(
                    f"The plugin {point.name!r} ({point.value}, group {point.group}) cannot be loaded: "
                    f"{str(error).rstrip('.')}. Fix or uninstall that package."
                ) from error
            _loaded.add(point)
    except BaseException:
        _loaded.discard(group)
        raise


def _import_module(path: str) -> tuple[ModuleType, str]:
    """Import the module of ``"package.module:name"``. Returns the module and the name."""
    module, _, name = path.partition(":")
    if not name or not re.fullmatch(r"\w+(\.\w+)*(?<!\.py)", module):
        raise ReasonEnvsError(f"Invalid import path {path!r}; expected 'package.module:name', without folders and .py.")
    try:
        return importlib.import_module(module), name
    except ModuleNotFoundError as error:
        raise ReasonEnvsError(
            f"{path!r}: cannot import {module!r} ({error}). Install it, or add its folder to PYTHONPATH."
        ) from error


def _origin(target: Any) -> str:
    """Return the import path of a class or function; a reloaded module has new ones under the same path."""
    return target if isinstance(target, str) else f"{target.__module__}:{target.__qualname__}"


def _public_names(module: ModuleType) -> list[str]:
    return [name for name in vars(module) if not name.startswith("_")]


@cache
def _tables(package: str) -> dict[str, dict[str, dict[str, Any]]]:
    return read_table(str(files(package) / "parts.yaml"), "parts.yaml")


@dataclass(frozen=True)
class Part:
    """A registered class or function. Import paths ``"package.module:name"`` are imported when they are needed."""

    target: Any
    """Class or function that makes the part, or its import path."""
    config: Any = None
    """Dataclass of the options, or its import path; the target is called with an instance. ``None``: the options are
    the target's own keyword parameters."""

    @classmethod
    def built_in(cls, package: str, group: str) -> dict[str, Self]:
        """Return the parts that a package's ``parts.yaml`` lists for an entry-point group, by name."""
        return {name: cls(**row) for name, row in _tables(package)[group].items()}

    def load(self) -> Any:
        """Return the class or function."""
        return load_attribute(self.target) if isinstance(self.target, str) else self.target

    def config_class(self) -> type:
        """Return the dataclass of the options."""
        if self.config is None:
            raise ReasonEnvsError(
                f"{self.target!r} has no configuration: register it with the dataclass of its options, as in "
                "register(name, target, config)."
            )
        return load_attribute(self.config) if isinstance(self.config, str) else self.config

    def options(self, positional: int = 0) -> dict[str, Option]:
        """Return the options by name, without ``positional`` leading parameters of a target without a dataclass."""
        return options_of(self.load(), positional) if self.config is None else options_of(self.config_class())

    def configure(self, owner: str, options: Mapping[str, Any]) -> Any:
        """Build an instance of the dataclass after checking names and types. ``owner`` names the part in errors."""
        check_options(owner, options, self.options())
        return self.config_class()(**options)


class Registry(Generic[T]):
    """Named parts of one kind.

    Args:
        kind: the kind in messages, such as ``"engine"``.
        group: entry-point group under which installed packages add parts.
        parts: the built-in parts by name.
        interface: class of the parts, or its import path. `make` returns its instances as they are.
        keywords: keyword arguments of `make` that are passed to the target and are not options.
    """

    def __init__(
        self, kind: str, group: str, parts: dict[str, Part], interface: Any = object, keywords: Sequence[str] = ()
    ) -> None:
        self.kind, self.group, self.keywords = kind, group, tuple(keywords)
        self.parts = parts
        """Every registered part by name."""
        self._interface = interface

    def register(self, name: str, target: Any, config: Any = None) -> None:
        """Add a part. A class or function of the same module and name replaces the one that was registered before.

        Args:
            name: a name that no other class or function has.
            target: class or function that makes the part, or its import path ``"package.module:name"``.
            config: dataclass of the options, or its import path. ``None``: the target's keyword parameters are options.

        Raises:
            ReasonEnvsError: another class or function has the name.
        """
        self.check_free(name, target)
        self.parts[name] = Part(target, config)

    def check_free(self, name: str, target: Any) -> None:
        """Raise if another class or function has the name; a notebook's cell may run twice."""
        held = self.find(name)
        if held is not None and _origin(held.target) != _origin(target):
            raise ReasonEnvsError(f"The {self.kind} {name!r} is registered already; choose another name.")

    def names(self) -> list[str]:
        """Return every name, sorted."""
        load_plugins(self.group)
        return sorted(self.parts)

    def find(self, name: str) -> Part | None:
        """Return the part that is registered under a name so far, or ``None``."""
        return self.parts.get(name)

    def __getitem__(self, name: str) -> Part:
        """Look a part up by ``name`` or ``module:name``.

        ``module:name`` imports the module first. It is a name that the module registers, or else a class or function of
        the module.

        Raises:
            ReasonEnvsError: the name is unknown. The message suggests near ones.
        """
        load_plugins(self.group)
        module, name = _import_module(name) if ":" in name else (None, name)
        part = self.find(name)
        if part is None and module is not None and hasattr(module, name):
            part = Part(getattr(module, name))
        if part is None:
            raise self.unknown(name, _public_names(module) if module else [])
        return part

    def unknown(self, name: str, others: Sequence[str] = ()) -> ReasonEnvsError:
        """Build the error for an unknown name. It lists the valid names: the registered ones and ``others``."""
        return unknown_name(self.kind, name, {*self.names(), *others}, OWN_PART)

    def configure(self, name: str, options: Mapping[str, Any]) -> Any:
        """Check options and build the configuration of a part."""
        return self[name].configure(f"{self.kind} {name!r}", options)

    def make(self, spec: Any, /, *arguments: Any, **options: Any) -> T:
        """Build a part.

        Args:
            spec: a name, ``"module:name"``, a mapping with ``name`` and options, or a part, which is returned as it is.
            arguments: positional arguments that the target takes besides its configuration.
            options: options of the part; they override those of a mapping.

        Raises:
            OptionError: an option is unknown, missing, or of the wrong type.
            ReasonEnvsError: the name is unknown, or ``spec`` is none of these.
        """
        if not isinstance(spec, str | Mapping):
            return self._passed_through(spec, options)
        keywords = {key: options.pop(key) for key in self.keywords if key in options}
        name, options = self._named(spec, options)
        return self.build(self[name], f"{self.kind} {name!r}", options, *arguments, **keywords)

    def build(self, part: Part, owner: str, options: dict[str, Any], /, *arguments: Any, **keywords: Any) -> T:
        """Check the options of a part, called ``owner`` in messages, and build it."""
        if part.config is not None:
            config = part.configure(owner, options)
            return part.load()(config, *arguments, **keywords)
        check_options(owner, options, part.options(positional=len(arguments)))
        return part.load()(*arguments, **keywords, **options)

    def _named(self, spec: str | Mapping[str, Any], options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Split a specification into the name and all options."""
        if isinstance(spec, str):
            return spec, options
        given = {str(key): value for key, value in spec.items()}
        if not isinstance(name := given.pop("name", None), str):
            raise ReasonEnvsError(
                f"The mapping for the {self.kind} needs the key 'name', such as {{'name': {self.names()[0]!r}}}. "
                f"It has {sorted(given)}."
            )
        return name, {**given, **options}

    def _passed_through(self, spec: Any, options: Mapping[str, Any]) -> T:
        interface = load_attribute(self._interface) if isinstance(self._interface, str) else self._interface
        if not isinstance(spec, interface):
            raise ReasonEnvsError(
                f"{spec!r} ({type(spec).__name__}) does not choose the {self.kind}: give a name, a mapping with 'name' "
                f"and options, or an instance of {interface.__name__}."
            )
        if options:
            raise ReasonEnvsError(
                f"{', '.join(sorted(options))}: the {self.kind} is an object already, and takes no options. Set them "
                "where the object is built."
            )
        return spec
