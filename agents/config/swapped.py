"""A preset with another part than its own, such as ``+experiment=X engine=vllm``: options that the part lacks."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from agents.config.schema import GROUPS
from agents.policies.language_config import LanguagePolicyConfig
from reason_envs.validation import default_of

PLACED = {"generator": "engine", "reward_model": "reward_model", "policy": "policy"}
"""The group whose ``device`` each option of ``placement`` sets."""


def swapped_groups(overrides: Sequence[str]) -> list[str]:
    """Return the groups for which the command line may choose another part than a preset does."""
    keys = [override.partition("=")[0] for override in overrides]
    return [key for key in keys if key in GROUPS] if "experiment" in (key.lstrip("+") for key in keys) else []


def drop_foreign_options(config: DictConfig, groups: Sequence[str]) -> dict[str, Any]:
    """Remove the options that the chosen parts of some groups do not have. Return their values by key."""
    dropped: dict[str, Any] = {}
    if not groups:
        return dropped
    schemas = {group: GROUPS[group][1](str(config[group].name)) for group in GROUPS}
    with open_dict(config):
        for group in groups:
            for path in list(_foreign(config[group], schemas[group], group)):
                parent, _, name = path.rpartition(".")
                dropped[path] = OmegaConf.select(config, parent).pop(name)
        for group in GROUPS:
            given: Any = OmegaConf.to_container(config[group], resolve=False)
            for field in dataclasses.fields(schemas[group]):  # an option may refer to one that has been left out
                value = str(given.get(field.name, ""))
                if value.startswith("${") and OmegaConf.select(config, value[2:-1]) is None:
                    dropped[f"{group}.{field.name}"], config[group][field.name] = value, field.default
    writes_text = issubclass(schemas["policy"], LanguagePolicyConfig)
    for name, group in PLACED.items():
        placeable = "device" in (entry.name for entry in dataclasses.fields(schemas[group]))
        if config.placement[name] is not None and (not placeable or (name == "generator" and writes_text)):
            dropped[f"placement.{name}"] = config.placement[name]
            config.placement[name] = None
    return dropped


def _foreign(node: DictConfig, schema: type, path: str) -> Iterator[str]:
    """Yield the keys of a node that a dataclass does not have. Fields that take any mapping keep theirs."""
    known = {entry.name: entry for entry in dataclasses.fields(schema)}
    for key in map(str, node):
        if key not in known:
            yield from [f"{path}.{key}"] if key != "name" else []
            continue
        nested = type(default_of(known[key]))
        if dataclasses.is_dataclass(nested) and OmegaConf.is_dict(inner := node.get(key)):
            yield from _foreign(inner, nested, f"{path}.{key}")
