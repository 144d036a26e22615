"""Parts by name: each kind (engine, policy, algorithm, ...) maps names to a class and its configuration.

Installed packages add parts without being imported first: under the entry-point group of a kind, such as
``reason_envs.engines``, an entry point names a function without arguments that registers them. What is not installed
goes by ``"module:name"``, as in Gymnasium: the module is imported, and registers the name.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, get_type_hints

from reason_envs.errors import OWN_PART, ReasonEnvsError, unknown_name
from reason_envs.validation import check_options, check_type, check_whole

_asked: set[str | EntryPoint] = set()
"""Entry points whose functions have been called, and groups of which all have."""


def load_attribute(address: str) -> Any:
    """Import what ``"package.module:name"`` names."""
    module, name = _import(address)
    if not hasattr(module, name):
        public = [known for known in vars(module) if not known.startswith("_")]
        raise unknown_name(f"name in module {module.__name__}", name, public)
    return getattr(module, name)


def registered_name(name: str) -> str:
    """Return the name itself, or that of ``"module:name"`` once the module, which registers it, is imported."""
    return _import(name)[1] if ":" in name else name


def _import(address: str) -> tuple[ModuleType, str]:
    """Import the module of ``"package.module:name"``; return it and the name."""
    module, _, name = address.partition(":")
    if not module or not name:
        raise ReasonEnvsError(f"{address!r} is no address: write 'package.module:name'.")
    try:
        return importlib.import_module(module), name
    except ModuleNotFoundError as error:
        raise ReasonEnvsError(
            f"{address!r}: cannot import {module!r} ({error}). Is it installed, or its folder on PYTHONPATH?"
        ) from error


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Read options from a command line: ``key=value``, where a value is YAML and ``a.b=value`` goes into a mapping."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for pair in pairs:
        if "=" not in pair:
            check_whole(pairs)
            raise ReasonEnvsError(f"Options are written key=value, such as max_terms=4; not {pair!r}.")
    try:
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist(list(pairs)), resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        check_whole(pairs)
        raise ReasonEnvsError(f"Cannot read the options {' '.join(pairs)}: {error}") from error
    return {str(key): value for key, value in parsed.items()} if isinstance(parsed, dict) else {}


def load_plugins(group: str) -> None:
    """Let the installed packages that have an entry point in a group register their parts; the second time is free.

    Raises:
        ReasonEnvsError: one of them cannot be loaded or registered, at every call until it is mended.
    """
    if group in _asked:
        return
    _asked.add(group)  # before the calls: registering looks names up
    try:
        for point in entry_points(group=group):
            if point not in _asked:
                _register(point)
                _asked.add(point)
    except BaseException:
        _asked.discard(group)
        raise


def _register(point: EntryPoint) -> None:
    try:
        point.load()()
    except (ImportError, AttributeError, ReasonEnvsError) as error:
        raise ReasonEnvsError(
            f"The plugin {point.name!r} ({point.value}, group {point.group}) cannot be loaded: "
            f"{str(error).rstrip('.')}. Mend or uninstall its package."
        ) from error


@dataclass(frozen=True)
class Plugin:
    """One named part, as classes or as their addresses ``"package.module:name"``, imported when they are needed."""

    target: Any
    """The class or function, or its address; called with an instance of the configuration."""
    config: Any
    """The dataclass that holds its options, or its address: the one source of their defaults."""

    def load(self) -> Any:
        """Return the class."""
        return load_attribute(self.target) if isinstance(self.target, str) else self.target

    def config_class(self) -> type:
        """Return the configuration dataclass."""
        return load_attribute(self.config) if isinstance(self.config, str) else self.config

    def configure(self, kind: str, options: dict[str, Any]) -> Any:
        """Build the configuration; an unknown or ill-typed option is an error that calls the part ``kind``."""
        config = self.config_class()
        known = {field.name: field for field in fields(config)}
        check_options(kind, options, known)
        try:
            types = get_type_hints(config)
        except NameError:  # annotations with names that only a type checker imports
            types = {}
        for option, value in options.items():
            check_type(kind, option, value, types.get(option, Any), known[option].default)
        return config(**options)


class Registry:
    """Named parts of one kind; its entry-point group is the kind's plural, such as ``reason_envs.engines``."""

    def __init__(self, kind: str, built_in: dict[str, Plugin]) -> None:
        self.kind = kind
        self.group = f"reason_envs.{kind[:-1]}ies" if kind.endswith("y") else f"reason_envs.{kind}s"
        self._plugins = built_in

    def register(self, name: str, target: Any, config: Any) -> None:
        """Add a part under a name that is not taken."""
        if name in self._plugins:
            raise ReasonEnvsError(f"The {self.kind} {name!r} exists already; register yours under another name.")
        self._plugins[name] = Plugin(target, config)

    def names(self) -> list[str]:
        """Return every name, sorted."""
        load_plugins(self.group)
        return sorted(self._plugins)

    def __getitem__(self, name: str) -> Plugin:
        """Look a part up by ``name`` or ``module:name``; an unknown one is an error that suggests near ones."""
        load_plugins(self.group)
        name = registered_name(name)
        if name not in self._plugins:
            raise unknown_name(self.kind, name, self._plugins, OWN_PART)
        return self._plugins[name]

    def configure(self, name: str, options: dict[str, Any]) -> Any:
        """Build the configuration of a part; an unknown option is an error."""
        return self[name].configure(f"{self.kind} {name}", options)
