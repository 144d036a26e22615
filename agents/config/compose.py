"""Compose the configuration of a run from ``key=value`` overrides, with hydra. Every mistake gets one message."""

import dataclasses
import functools
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agents.config.command_line import bad_value, quoted, refused_key
from agents.config.recommended import CHOICES, fill_in, leave_open
from agents.config.renamed import RENAMED_PRESETS, meant, renamed_key
from agents.config.schema import GROUPS, TrainConfig, check_name, choice, typed
from agents.config.swapped import drop_foreign_options, swapped_groups
from reason_envs import registration
from reason_envs.errors import OptionError, ReasonEnvsError, unknown_name
from reason_envs.validation import check_whole, default_of

_AGENTS = Path(__file__).resolve().parents[1]
CONF_DIR = next(p for p in (_AGENTS / "conf", _AGENTS.parent / "conf") if p.is_dir())
"""Folder of the YAML files: inside the package in an installed wheel, beside it in a checkout."""
FREE_FORM = ("tasks", "eval_set", "engine", "reward_model", "sandbox", "prompts", "solver", "executors", "reward")
"""Options that take a mapping with ``name`` and the options of the part with that name."""


def of_a_run(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide the arguments of a command into its own and those that describe a run, such as ``policy.model=MODEL``."""
    keys = (*GROUPS, "placement", "eval_set", "experiment")
    given = [a for a in arguments if a.partition("=")[0].lstrip("+~").partition(".")[0] in keys]
    return [a for a in arguments if a not in given], given


ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]  # hydra copies it each time
_registered: dict[tuple[str, str], tuple[Any, ...]] = {}
"""What hydra's store holds for each group and name: the options dataclass, the environment, and whether it is open."""


def register_schemas(overrides: Sequence[str] = ()) -> None:
    """Register the options dataclass of every part with hydra. It is the only source of the part's defaults.

    Modules of parts that the overrides choose as ``module:name`` are imported. Parts that have not changed since the
    last call are not registered again.
    """
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    chosen = [override.partition("=")[::2] for override in overrides]
    swapped = swapped_groups(overrides)
    for group, (names, config_of) in GROUPS.items():
        for name in [*(value for key, value in chosen if key == group and ":" in value), *names()]:
            schema = choice(config_of(name), name)
            part = (schema, registration.ENVIRONMENTS[name] if group == "env" else None, group in swapped)
            if _registered.get((group, name)) != part:
                store.store(group=group, name=name, node=_node(group, name, schema, is_open=group in swapped))
                _registered[group, name] = part


def _node(group: str, name: str, schema: type, *, is_open: bool) -> DictConfig:
    """Return the options of a part. If they are open, a preset may set options that the part does not have."""
    node: DictConfig = OmegaConf.structured(schema)
    leave_open(group, name, node)
    if group == "env" and isinstance(node.get("tasks"), str):
        node.tasks = {"name": node.tasks}  # so that env.tasks.x=1 adds to it
    return DictConfig(OmegaConf.to_container(node)) if is_open else node


def compose_config(overrides: Sequence[str]) -> TrainConfig:
    """Compose and validate the configuration of a run.

    Args:
        overrides: ``key=value`` texts, such as ``["algo=grpo", "algo.kl_coef=0.05", "+experiment=grpo_math_lora"]``.

    Raises:
        ReasonEnvsError: a key, name or experiment is unknown, or a value is invalid.
    """
    raw: Any = OmegaConf.to_container(composed(overrides), resolve=True)
    return typed(raw)


def composed(overrides: Sequence[str]) -> DictConfig:
    """Compose the options of a run like `compose_config`, but do not validate their values."""
    _check_unsplit(overrides)
    overrides = [_as_text(override) for override in overrides]
    register_schemas(overrides)
    for override in overrides:
        group, equals, value = override.partition("=")
        if equals and group in GROUPS:
            check_name(group, value)
        if group.startswith("~") and group[1:] in GROUPS:
            raise unknown_name(group[1:], "None", GROUPS[group[1:]][0]())
    try:
        with initialize_config_dir(str(CONF_DIR), version_base=None):
            parts = _parts(overrides)
            given = {override.partition("=")[0] for override in overrides}
            recommended = [f"{group}={parts[group]}" for group in CHOICES if group not in given]
            config = compose("config", overrides=[*recommended, *_spelled_out(overrides, parts["env"])])
            _drop(config, overrides)
        for group in GROUPS:
            check_name(group, str(config[group].name))
        fill_in(config)
        OmegaConf.to_container(config, resolve=True)  # raises if a value cannot be resolved
        return config
    except ReasonEnvsError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        with initialize_config_dir(str(CONF_DIR), version_base=None):
            raise _explain(error, overrides) from error


def _check_unsplit(overrides: Sequence[str]) -> None:
    """Raise if the shell has split a mapping at its commas: ``x={a:1,b:2}`` becomes ``x=a:1`` and ``x=b:2``."""
    keys = [override.partition("=")[0] for override in overrides if re.match(r"[\w.]+=\w+:", override)]
    if repeated := [override for override in overrides if keys.count(override.partition("=")[0]) > 1]:
        raise ReasonEnvsError(
            f"{' and '.join(map(repr, repeated))} set one key: quote the whole mapping once, as in "
            "'env.tasks={name: json, path: my.jsonl}', because the shell splits it at its commas."
        )


def _drop(config: DictConfig, overrides: Sequence[str]) -> None:
    """Remove options of a preset that a part chosen on the command line does not have, and say so."""
    dropped = drop_foreign_options(config, swapped_groups(overrides))
    given = [override.partition("=")[0] for override in overrides]
    for key in dropped:
        if key in given and not key.startswith("placement."):
            raise _unknown_key(key, overrides)
    if dropped:
        options = ", ".join(f"{key}={value}" for key, value in dropped.items())
        print(f"Options of the preset that the chosen parts do not have are left out: {options}", file=sys.stderr)


def _as_text(override: str) -> str:
    """Quote a text that hydra would change, read the file of ``@file``, and shorten an environment's Gymnasium id."""
    key, _, value = override.partition("=")
    if key == "env" and value in registration.ids():
        return f"env={registration.ENVIRONMENTS[value].name}"
    if value.startswith("@"):
        try:
            return f"{key}={quoted(Path(value[1:]).expanduser().read_text(encoding='utf-8'))}"
        except (OSError, UnicodeDecodeError) as error:
            rule = f"cannot be read ({error}): give the path of a text file after @."
            raise OptionError(key, value, rule) from error
    literal = "${" in value and key != "output_dir" and not re.fullmatch(r"\$\{[^{}\s]*\}", value)
    with suppress(HydraException, ValueError):  # a number of too many digits
        if not literal and not OverridesParser.create().parse_override(override).is_sweep_override():
            return override
    return override if value.lstrip()[:1] in ("", "{", "[", '"', "'") else f"{key}={quoted(value)}"


def _parts(overrides: Sequence[str]) -> dict[str, str]:
    """Return the name of each group's part: chosen by the overrides or an experiment, or else recommended."""
    chosen = _chosen(*(o for o in overrides if o.partition("=")[0].lstrip("+") in (*GROUPS, "experiment")))
    recommends = {**CHOICES, **registration.ENVIRONMENTS[chosen["env"]].recommends}
    return {group: str(name or recommends[group]) for group, name in chosen.items()}


@functools.cache  # a composition takes longer than all that follows
def _chosen(*choices: str) -> dict[str, str]:
    """Return the name of each group's part, empty where neither overrides nor an experiment choose one."""
    given = {choice.lstrip("+").partition("=")[0]: choice.partition("=")[2] for choice in choices}
    if "experiment" in given:
        config = compose("config", overrides=list(choices))
        return {group: OmegaConf.select(config, f"{group}.name") or "" for group in GROUPS}
    defaults: Any = OmegaConf.to_container(OmegaConf.load(CONF_DIR / "config.yaml").defaults)
    own = {group: name for entry in defaults if isinstance(entry, dict) for group, name in entry.items()}
    return {group: given.get(group, own[group]) or "" for group in GROUPS}


def _spelled_out(overrides: Sequence[str], env: str) -> Iterator[str]:
    """Yield the overrides in a form in which hydra replaces mappings and accepts options of named parts.

    ``env.tasks={...}`` replaces the mapping; ``env.tasks.x=1`` adds to it. ``env.reward=x`` becomes
    ``env.reward.name=x``. A list, or a mapping with options of another reward, replaces the dataclass.
    """
    names, config_of = GROUPS["env"]
    own = {f"env.{path}" for path in _paths(config_of(env))}
    paths = {path for name in names() for path in _paths(config_of(name)) if path.rpartition(".")[2] in FREE_FORM}
    free = {f"env.{path}" for path in paths} | {"eval_set", "placement.roles"}
    structured = {path.removesuffix(".name") for path in own if path.endswith(".name")}
    free -= structured
    for position, override in enumerate(overrides):
        key, _, value = override.partition("=")
        more = any(later.startswith(f"{key}.") for later in overrides[position:])
        if key in structured and value.lstrip().startswith(("{", "[")):
            given: Any = OverridesParser.create().parse_override(override).value()
            if isinstance(given, list) or any(f"{key}.{name}" not in own for name in given):
                yield f"{key}=null"
                override = f"++{override}"
        elif key in structured:
            override = f"{key}.name={value}"
        if key in free and (more or value.lstrip().startswith("{")):
            yield f"{key}=null"
        if key in free and more and not value.lstrip().startswith("{"):
            key, override = f"{key}.name", f"{key}.name={value}"
        yield f"++{override}" if key.rpartition(".")[0] in free else override


def _explain(error: Exception, overrides: Sequence[str]) -> ReasonEnvsError:
    """Return one error, with the valid keys or names, for an error of hydra or OmegaConf."""
    first, *rest = str(error).strip().splitlines()
    if isinstance(error, MissingConfigException):
        group, _, name = (error.missing_cfg_file or "").partition("/")
        if new := RENAMED_PRESETS.get(name):
            return ReasonEnvsError(f"The preset {name!r} no longer exists: use +experiment={new}.")
        return unknown_name(group, name, error.options or [])
    if isinstance(error, OverrideParseException):
        reason = "" if error.override in first else f" ({first})"
        check_whole([error.override or ""])
        return ReasonEnvsError(
            f"Cannot read {error.override!r}{reason}: write key=value, and quote a value with special characters "
            "twice, as in 'key=\"a=b\"'."
        )
    cause = error.__cause__ or error
    key = refused_key(cause)
    if first.startswith("Could not override"):
        return _unknown_key(key or first.split("'")[1], overrides)
    return bad_value(cause, "") if key else ReasonEnvsError(" ".join([first, *rest[:1]]))


def _unknown_key(key: str, overrides: Sequence[str]) -> ReasonEnvsError:
    gone = renamed_key(key)
    if gone is not None:
        return gone
    group, _, path = key.partition(".")
    if group not in GROUPS:
        paths = list(_paths(TrainConfig))
        inner = [path for path in paths if path.startswith(f"{group}.")] or [path for path in paths if "." not in path]
        full = key if get_close_matches(key, inner) else next((o for o in overrides if o.startswith(f"{key}.")), key)
        return meant(full.partition("=")[0]) or meant(key) or unknown_name("key", key, inner)
    names, config_of = GROUPS[group]
    chosen = dict(override.partition("=")[::2] for override in overrides).get(group)
    valid = {f"{group}.{path}" for path in _paths(config_of(_parts(overrides)[group]))}
    owners = [f"{group}={name}" for name in names() if path in _paths(config_of(name))]
    if owners and key not in valid:
        user = f"{group}={chosen} does not have" if chosen else "this run does not have"
        fix = "choose one of them" if chosen else f"add {owners[0]}"
        similar = sorted(other for other in valid if other.endswith(f".{path}"))
        hint = f" This run has {similar[0]!r} instead." if similar else ""
        return ReasonEnvsError(
            f"The key {key!r} is an option of {' and '.join(owners)}, which {user}: {fix}, or leave the key out.{hint}"
        )
    near = get_close_matches(key, valid, n=1, cutoff=0.85)
    return (None if near else meant(key)) or unknown_name("key", key, valid)


def _paths(schema: type) -> Iterator[str]:
    for entry in dataclasses.fields(schema):
        yield entry.name
        if dataclasses.is_dataclass(default := default_of(entry)):
            yield from (f"{entry.name}.{path}" for path in _paths(type(default)))
