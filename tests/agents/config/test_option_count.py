"""The number of options stays small."""

import dataclasses

from agents.config.schema import GROUPS, TrainConfig
from agents.evaluate import EvaluateConfig
from agents.frontier import FrontierConfig
from agents.reward_model.train import RewardModelConfig

MAXIMUM = 268
"""Distinct options of all commands and parts. A new option should replace another one."""


def paths(schema, prefix=""):
    for entry in dataclasses.fields(schema):
        default = entry.default_factory() if entry.default_factory is not dataclasses.MISSING else None
        if dataclasses.is_dataclass(default):
            yield from paths(type(default), f"{prefix}{entry.name}.")
        else:
            yield f"{prefix}{entry.name}"


def test_options_do_not_exceed_the_maximum():
    commands = [TrainConfig, EvaluateConfig, FrontierConfig, RewardModelConfig]
    parts = [config_of(name) for names, config_of in GROUPS.values() for name in names()]
    options = {path for schema in (*commands, *parts) for path in paths(schema)} - GROUPS.keys()
    assert len(options) <= MAXIMUM, sorted(options)
