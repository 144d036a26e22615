"""Parts by name: each kind (engine, policy, algorithm, ...) maps names to a class and its configuration."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, fields
from typing import Any

from reason_envs.errors import ReasonEnvsError, unknown_name


def load_attribute(address: str) -> Any:
    """Import what ``"package.module:name"`` names."""
    module, _, name = address.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class Plugin:
    """One named part; both addresses are ``"package.module:name"`` and are imported when they are needed."""

    target: str
    """The class or function, called with an instance of the configuration."""
    config: str
    """The dataclass that holds its options: the one source of their defaults."""

    def load(self) -> Any:
        """Import the class."""
        return load_attribute(self.target)

    def config_class(self) -> type:
        """Import the configuration dataclass."""
        return load_attribute(self.config)


class Registry:
    """Named parts of one kind."""

    def __init__(self, kind: str, built_in: dict[str, Plugin]) -> None:
        self.kind = kind
        self._plugins = built_in

    def register(self, name: str, target: str, config: str) -> None:
        """Add a part under a name that is not taken."""
        if name in self._plugins:
            raise ReasonEnvsError(f"The {self.kind} {name!r} exists already; register yours under another name.")
        self._plugins[name] = Plugin(target, config)

    def names(self) -> list[str]:
        """Return every name, sorted."""
        return sorted(self._plugins)

    def __getitem__(self, name: str) -> Plugin:
        """Look a part up; an unknown name is an error that suggests near ones."""
        if name not in self._plugins:
            raise unknown_name(self.kind, name, self._plugins)
        return self._plugins[name]

    def configure(self, name: str, options: dict[str, Any]) -> Any:
        """Build the configuration of a part; an unknown option is an error."""
        config = self[name].config_class()
        valid = [field.name for field in fields(config)]
        for option in options:
            if option not in valid:
                raise unknown_name(f"option of {self.kind} {name}", option, valid)
        return config(**options)
