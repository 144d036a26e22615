"""Environments by name: Gymnasium ids, short names, and the classes behind them, loaded at first use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gymnasium

from reason_envs.errors import OWN_PART, ReasonEnvsError, unknown_name
from reason_envs.registry import Plugin, load_plugins, registered_name

if TYPE_CHECKING:
    from reason_envs.core import Environment


ENTRY_POINT_GROUP = "reason_envs.environments"
RECOMMENDABLE = ("algo", "policy", "model", "learning_rate")
"""What an environment can recommend to learners."""
_SEARCH: dict[str, str | float] = {"algo": "ppo", "policy": "graph"}
_TEAM: dict[str, str | float] = {
    "algo": "at_grpo",
    "policy": "language",
    "model": "embedded:petting",
    "learning_rate": 6e-4,
}


@dataclass(frozen=True)
class EnvironmentEntry(Plugin):
    """A registered environment: its class, called with one argument, the configuration, and its two names."""

    id: str
    """Gymnasium id, such as ``"SingleTurnMath-v0"``."""
    name: str
    """Short name, such as ``"single_turn_math"``."""
    recommends: Mapping[str, str | float] = field(default_factory=dict)
    """What trains well in the environment, as far as it differs from the learners' own defaults: ``algo``, ``policy``,
    ``model`` and the ``learning_rate`` that suits this model. Empty: the learners' defaults."""

    def __post_init__(self) -> None:
        for key in self.recommends:
            if key not in RECOMMENDABLE:
                raise unknown_name(f"recommendation of {self.id}", key, RECOMMENDABLE)


_ENTRIES: dict[str, EnvironmentEntry] = {}
_BUILT_IN = (
    EnvironmentEntry(
        "reason_envs.envs.single_turn_math:SingleTurnMath",
        "reason_envs.envs.single_turn_math:SingleTurnMathConfig",
        "SingleTurnMath-v0",
        "single_turn_math",
    ),
    EnvironmentEntry(
        "reason_envs.envs.reason_tree.environment:ReasonTree",
        "reason_envs.envs.reason_tree.config:ReasonTreeConfig",
        "ReasonTree-v0",
        "reason_tree",
        _SEARCH,
    ),
    EnvironmentEntry(
        "reason_envs.envs.reason_tree.paper:ReasonTreePaper",
        "reason_envs.envs.reason_tree.paper:ReasonTreePaperConfig",
        "ReasonTreePaper-v0",
        "reason_tree_paper",
        _SEARCH,
    ),
    EnvironmentEntry(
        "reason_envs.envs.petting.plan_path:PettingPlanPath",
        "reason_envs.envs.petting.plan_path:PettingPlanPathConfig",
        "PettingPlanPath-v0",
        "petting_plan_path",
        _TEAM,
    ),
    EnvironmentEntry(
        "reason_envs.envs.petting.sokoban:PettingSokoban",
        "reason_envs.envs.petting.sokoban:PettingSokobanConfig",
        "PettingSokoban-v0",
        "petting_sokoban",
        _TEAM,
    ),
    EnvironmentEntry(
        "reason_envs.envs.petting.sudoku:PettingSudoku",
        "reason_envs.envs.petting.sudoku:PettingSudokuConfig",
        "PettingSudoku-v0",
        "petting_sudoku",
        _TEAM,
    ),
    EnvironmentEntry(
        "reason_envs.envs.petting.math:PettingMath",
        "reason_envs.envs.petting.math:PettingMathConfig",
        "PettingMath-v0",
        "petting_math",
        _TEAM,
    ),
    EnvironmentEntry(
        "reason_envs.envs.petting.code:PettingCode",
        "reason_envs.envs.petting.code:PettingCodeConfig",
        "PettingCode-v0",
        "petting_code",
        _TEAM,
    ),
    EnvironmentEntry(
        "reason_envs.envs.planner_solver:PlannerSolver",
        "reason_envs.envs.planner_solver:PlannerSolverConfig",
        "PlannerSolver-v0",
        "planner_solver",
        {"model": "embedded:planner_solver", "learning_rate": 6e-4},
    ),
    EnvironmentEntry(
        "reason_envs.envs.workflow.environment:WorkflowExecution",
        "reason_envs.envs.workflow.config:WorkflowConfig",
        "WorkflowExecution-v0",
        "workflow",
        {"model": "embedded:workflow", "learning_rate": 3e-4},
    ),
)


def register(
    id: str,
    environment: type[Environment] | str,
    config: type | str,
    name: str | None = None,
    recommends: Mapping[str, str | float] | None = None,
) -> None:
    """Add an environment: `make_environment`, ``gymnasium.make`` and ``gymnasium.make_vec`` then know it.

    A package that calls this from a function in the entry-point group ``reason_envs.environments`` need not be imported
    first; to Gymnasium its environments are ``"package:Id-v0"`` then.

    Args:
        id: Gymnasium id, such as ``"MyPuzzle-v0"``.
        environment: the class, or its address ``"package.module:Class"``; called with the configuration.
        config: the dataclass of its options, or its address. Options are its fields.
        name: short name; the id in snake case without its version by default (``"my_puzzle"``).
        recommends: what trains well in it: ``algo``, ``policy``, ``model`` and the ``learning_rate`` that suits this
            model, such as ``{"algo": "ppo", "policy": "graph"}``; learners use their own defaults for the rest.

    Raises:
        ReasonEnvsError: the id or name is taken, or a recommendation is unknown.
    """
    for address in (environment, config):
        if isinstance(address, str) and ":" not in address:
            raise ReasonEnvsError(f"{address!r} is no address of a class: write 'package.module:Class'.")
    _add(EnvironmentEntry(environment, config, id, name or _short_name(id), recommends or {}))


def names() -> list[str]:
    """Return every short name, sorted."""
    load_plugins(ENTRY_POINT_GROUP)
    return sorted(entry.name for entry in _ENTRIES.values())


def ids() -> list[str]:
    """Return every Gymnasium id, sorted."""
    load_plugins(ENTRY_POINT_GROUP)
    return sorted(_ENTRIES)


def entry(name: str) -> EnvironmentEntry:
    """Look an environment up by its id or short name; ``module:`` before it imports what registers it."""
    load_plugins(ENTRY_POINT_GROUP)
    name = registered_name(name)
    for candidate in _ENTRIES.values():
        if name in (candidate.id, candidate.name):
            return candidate
    raise unknown_name("environment", name, [*ids(), *names()], OWN_PART)


def env_config(name: str) -> type:
    """Return the dataclass of an environment's options."""
    return entry(name).config_class()


def make_environment(name: str, *, render_mode: str | None = None, **options: Any) -> Environment:
    """Build the asynchronous core of an environment.

    Args:
        name: id or short name; ``"module:Id-v0"`` imports the module first, as in Gymnasium.
        render_mode: one of the environment's ``metadata["render_modes"]``; ``None`` renders nothing.
        options: fields of its configuration, as names, mappings or objects. Objects are shared, never copied.

    Raises:
        ReasonEnvsError: for an unknown name, option or render mode, with the valid ones.
    """
    found = entry(name)
    environment = found.load()(found.configure(found.id, options))
    modes = environment.metadata["render_modes"]
    if render_mode is not None and render_mode not in modes:
        raise unknown_name(f"render_mode of {found.id}", render_mode, modes)
    environment.render_mode = render_mode
    return environment


def register_all() -> None:
    """Make every environment of the library known to Gymnasium; calling it again changes nothing."""
    for built_in in _BUILT_IN:
        if built_in.id not in _ENTRIES:
            _add(built_in)


def _add(new: EnvironmentEntry) -> None:
    for taken in (new.id, new.name):
        if any(taken in (known.id, known.name) for known in _ENTRIES.values()):
            raise ReasonEnvsError(f"An environment {taken!r} is registered already; choose another id or name.")
    gymnasium.register(
        new.id,
        entry_point="reason_envs.adapters.gymnasium:make_env",
        vector_entry_point="reason_envs.adapters.gymnasium:make_vector_env",
        kwargs={"environment": new.id},
    )
    _ENTRIES[new.id] = new


def _short_name(id: str) -> str:
    base = re.sub(r"-v\d+$", "", id).rsplit("/", 1)[-1]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", base).replace("-", "_").lower()
