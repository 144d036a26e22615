"""Environments by name: Gymnasium ids, short names, and the classes behind them, which are imported at first use."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium

from reason_envs.core import Environment
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.registry import Part, Registry
from reason_envs.validation import check_choice

Recommendation = Mapping[str, str | float]
RECOMMENDABLE = ("algo", "policy", "model", "learning_rate")
"""Options of a run that an environment can recommend."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentEntry(Part):
    """A registered environment: its class, its configuration, its two names, and what trains well in it."""

    id: str
    """Gymnasium id, such as ``"SingleTurnMath-v0"``."""
    name: str
    """Short name, such as ``"single_turn_math"``."""
    recommends: Recommendation = field(default_factory=dict)
    """Options of a run that trains well in the environment: ``algo``, ``policy``, ``model``, and the ``learning_rate``
    for this model. Missing options keep the learners' defaults."""
    other_models: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of the environment's options, such as ``system_prompt`` or ``reward.wrong``, in runs that train a model
    which does not ship with this library. Such a model does not know the environment's format yet."""

    def __post_init__(self) -> None:
        for key in self.recommends:
            if key not in RECOMMENDABLE:
                raise unknown_name(f"recommendation of {self.id}", key, RECOMMENDABLE)


class EnvironmentRegistry(Registry[Environment]):
    """Environments by short name; they are found by their Gymnasium id too."""

    def find(self, name: str) -> Part | None:
        """Return the environment that has this short name or id, or ``None``."""
        return super().find(name) or next((e for e in self.entries() if e.id == name), None)

    def entries(self) -> list[EnvironmentEntry]:
        """Return every environment that is registered so far."""
        return [part for part in self.parts.values() if isinstance(part, EnvironmentEntry)]

    def __getitem__(self, name: str) -> EnvironmentEntry:
        """Look an environment up by its id or short name; ``module:`` before it imports the module first."""
        part = super().__getitem__(name)
        if not isinstance(part, EnvironmentEntry):
            raise ReasonEnvsError(
                f"{name!r} is not registered as an environment: call reason_envs.register(id, environment, config) in "
                "that module, and write module:id."
            )
        return part

    def unknown(self, name: str, others: Sequence[str] = ()) -> ReasonEnvsError:
        """Build the error for an unknown name or id."""
        return super().unknown(name, [*(entry.id for entry in self.entries()), *others])


ENVIRONMENTS = EnvironmentRegistry("environment", "reason_envs.environments", {}, Environment)
"""Every environment; `register` adds one."""


def register(
    id: str,
    environment: type[Environment] | str,
    config: type | str,
    name: str | None = None,
    recommends: Recommendation | None = None,
    other_models: Mapping[str, Any] | None = None,
) -> None:
    """Add an environment, so that `make_environment`, ``gymnasium.make`` and ``gymnasium.make_vec`` know it.

    A package that calls this from a function in the entry-point group ``reason_envs.environments`` need not be imported
    first. Gymnasium finds its environments as ``"package:Id-v0"``.

    Args:
        id: Gymnasium id, such as ``"MyPuzzle-v0"``.
        environment: the class, or its import path ``"package.module:Class"``. It is called with the configuration.
        config: the dataclass of the options, or its import path.
        name: short name. ``None``: the id in snake case without its version (``"my_puzzle"``).
        recommends: what trains well in it: ``algo``, ``policy``, ``model`` and the ``learning_rate`` that suits this
            model, such as ``{"algo": "ppo", "policy": "graph"}``. Learners use their own defaults for the rest.
        other_models: defaults of the environment's options in runs that train a model which does not ship with this
            library, such as ``{"system_prompt": "Answer with one number."}``.

    Raises:
        ReasonEnvsError: another environment has the id or name, or a recommendation is unknown.
    """
    for path in (environment, config):
        if isinstance(path, str) and ":" not in path:
            raise ReasonEnvsError(f"Invalid import path {path!r}; expected 'package.module:Class'.")
    base = re.sub(r"-v\d+$", "", id).rsplit("/", 1)[-1]
    snake_case = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", base).replace("-", "_").lower()
    more = {"recommends": recommends or {}, "other_models": other_models or {}}
    _add(EnvironmentEntry(environment, config, id=id, name=name or snake_case, **more))


def ids() -> list[str]:
    """Return every Gymnasium id, sorted."""
    return sorted(ENVIRONMENTS[name].id for name in ENVIRONMENTS.names())


def env_config(name: str) -> type:
    """Return the dataclass of an environment's options."""
    return ENVIRONMENTS[name].config_class()


def make_environment(spec: Any, *, render_mode: str | None = None, **options: Any) -> Environment:
    """Build the asynchronous core of an environment.

    Args:
        spec: id or short name; ``"module:Id-v0"``, which imports the module first; a mapping with ``name`` and options;
            or an environment, which is returned as it is.
        render_mode: one of the environment's ``metadata["render_modes"]``; ``None`` renders nothing.
        options: fields of its configuration, as names, mappings or objects. Objects are shared and not copied.

    Raises:
        ReasonEnvsError: a name, option or render mode is unknown. The message lists the valid ones.
    """
    if isinstance(spec, Environment) and render_mode is not None:
        options["render_mode"] = render_mode  # an object takes no options
    environment = ENVIRONMENTS.make(spec, **options)
    if render_mode is not None:
        check_choice("render_mode", render_mode, environment.metadata["render_modes"])
        environment.render_mode = render_mode
    return environment


def register_all() -> None:
    """Make every environment of the library known to Gymnasium; a second call changes nothing."""
    for name, built_in in EnvironmentEntry.built_in("reason_envs", "reason_envs.environments").items():
        if name not in ENVIRONMENTS.parts:
            _add(built_in)


def _add(new: EnvironmentEntry) -> None:
    ENVIRONMENTS.check_free(new.id, new.target)
    ENVIRONMENTS.check_free(new.name, new.target)
    ENVIRONMENTS.parts[new.name] = new
    gymnasium.register(
        new.id,
        entry_point="reason_envs.adapters.reason_envs:make_env",
        vector_entry_point="reason_envs.adapters.reason_envs:make_vector_env",
        order_enforce=False,  # the adapter does this; without wrappers, help(env) describes the environment
        disable_env_checker=True,
        kwargs={"environment": new.id},
    )
