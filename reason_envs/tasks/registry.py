"""Task families by name: the built-in ones, those of reasoning-gym and those that other packages add."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

from reason_envs.errors import OWN_PART, ReasonEnvsError, unknown_name
from reason_envs.registry import load_attribute, load_plugins, registered_name
from reason_envs.tasks.base import Split, TaskSet
from reason_envs.validation import check_options, check_type

ENTRY_POINT_GROUP = "reason_envs.tasks"
REQUIRED = inspect.Parameter.empty
"""Stands in ``Family.options`` for the default of an option that must be given."""

_BUILT_IN = {
    "polaris": "reason_envs.tasks.files.named_benchmarks:polaris",
    "AIME24": "reason_envs.tasks.files.named_benchmarks:aime24",
    "AIME25": "reason_envs.tasks.files.named_benchmarks:aime25",
    "OlympiadBench": "reason_envs.tasks.files.named_benchmarks:olympiad_bench",
    "code_contests": "reason_envs.tasks.files.named_benchmarks:code_contests",
    "introductory": "reason_envs.tasks.files.named_benchmarks:introductory",
    "interview": "reason_envs.tasks.files.named_benchmarks:interview",
    "competition": "reason_envs.tasks.files.named_benchmarks:competition",
    "json": "reason_envs.tasks.files.families:json_files",
    "gsm8k": "reason_envs.tasks.files.families:gsm8k_files",
    "math": "reason_envs.tasks.files.families:math_files",
    "hotpotqa": "reason_envs.tasks.files.families:hotpotqa_files",
    "drop": "reason_envs.tasks.files.families:drop_files",
    "humaneval": "reason_envs.tasks.files.families:humaneval_files",
    "mbpp": "reason_envs.tasks.files.families:mbpp_files",
    "fact_qa": "reason_envs.tasks.generated.fact_qa:fact_qa",
    "one_line_code": "reason_envs.tasks.generated.one_line_code:one_line_code",
    "workflow_problems": "reason_envs.tasks.generated.workflow_problems:workflow_problems",
    "hub": "reason_envs.tasks.files.hub:hub",
    "mixture": "reason_envs.tasks.mixture:mixture",
    "plan_path": "reason_envs.tasks.games.plan_path_tasks:plan_path",
    "sokoban": "reason_envs.tasks.games.sokoban_tasks:sokoban",
    "boxoban": "reason_envs.tasks.games.sokoban_tasks:boxoban",
    "sudoku": "reason_envs.tasks.games.sudoku_tasks:sudoku",
    "functions": "reason_envs.tasks.generated.functions:functions",
}
_registered: dict[str, Callable[..., TaskSet]] = {}


@dataclass(frozen=True)
class Family:
    """A named source of problems."""

    name: str
    """What ``make`` calls it."""
    summary: str
    """One line on what its problems are."""
    factory: Callable[..., TaskSet]
    """Called as ``factory(split, **options)``."""
    options: Mapping[str, Any]
    """Every option with its default (``REQUIRED`` for none)."""
    types: Mapping[str, Any] = field(default_factory=dict)
    """What each option's annotation says its values are, where it has one."""
    generated: bool = False
    """Whether its problems come from one of reasoning-gym's generators."""


def make(spec: TaskSet | str | Mapping[str, Any], split: str = "train") -> TaskSet:
    """Build a set of problems.

    Args:
        spec: a task set (returned as it is), the name of a family (``"chain_sum"``), or a mapping of its name and
            options (``{"name": "chain_sum", "min_terms": 3}``).
        split: ``"train"`` or ``"test"``.

    Raises:
        ReasonEnvsError: for an unknown name, split or option, a missing option, and whatever the family refuses.
    """
    if isinstance(spec, TaskSet):
        return spec
    if split not in get_args(Split):
        raise unknown_name("split", split, get_args(Split))
    name, options = _parse(spec)
    chosen = family(name)
    check_options(f"task family {name!r}", options, chosen.options)
    for option, default in chosen.options.items():
        if default is REQUIRED and option not in options:
            raise ReasonEnvsError(f"Task family {name!r} needs the option {option!r}; none was given.")
    for option, value in options.items():
        owner, wanted = f"task family {name!r}", chosen.types.get(option, Any)
        check_type(owner, option, value, wanted, chosen.options[option])
    return chosen.factory(split, **options)


def register(name: str, factory: Callable[..., TaskSet]) -> None:
    """Add a task family.

    Args:
        name: the new family's name.
        factory: called as ``factory(split, **options)``; its keyword parameters are the family's options.

    A package that calls this from a function in the entry-point group ``reason_envs.tasks`` need not be imported first.
    """
    if name in names():
        raise ReasonEnvsError(f"The task family {name!r} exists already; register yours under another name.")
    _registered[name] = factory


def names() -> list[str]:
    """Return the name of every task family, sorted."""
    from reason_envs.tasks.generated import reasoning_gym as procedural

    load_plugins(ENTRY_POINT_GROUP)
    return sorted({*_BUILT_IN, *_registered, *procedural.family_names()})


def family(name: str) -> Family:
    """Look a task family up by its name; ``module:`` before it imports what registers it."""
    load_plugins(ENTRY_POINT_GROUP)
    name = registered_name(name)
    if name in _BUILT_IN:
        return _from_factory(name, load_attribute(_BUILT_IN[name]))
    if name in _registered:
        return _from_factory(name, _registered[name])
    from reason_envs.tasks.generated import reasoning_gym as procedural

    if name in procedural.family_names():
        factory = partial(procedural.procedural, name)
        return Family(name, procedural.summary(name), factory, procedural.option_defaults(name), generated=True)
    if Path(name).is_file():
        raise ReasonEnvsError(f"{name!r} is a file, not a task family; write {{'name': 'json', 'path': {name!r}}}.")
    raise unknown_name("task family", name, names(), OWN_PART)


def _parse(spec: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(spec, str):
        return spec, {}
    if not isinstance(spec, Mapping):
        raise ReasonEnvsError(f"A task is a name, a mapping with 'name' or a TaskSet, not {type(spec).__name__}.")
    options = {str(key): value for key, value in spec.items()}
    if not isinstance(options.get("name"), str):
        raise ReasonEnvsError(f"A task mapping names its family under 'name'; this one has {sorted(options)}.")
    return options.pop("name"), options


def _from_factory(name: str, factory: Callable[..., TaskSet]) -> Family:
    try:
        signature = inspect.signature(factory, eval_str=True)
    except NameError:  # annotations with names that only a type checker imports
        signature = inspect.signature(factory)
    _, *parameters = signature.parameters.values()
    summary = (inspect.getdoc(factory) or "").split("\n")[0]
    defaults = {parameter.name: parameter.default for parameter in parameters}
    types = {p.name: p.annotation for p in parameters if not isinstance(p.annotation, str) and p.annotation != p.empty}
    return Family(name, summary, factory, defaults, types=types)
