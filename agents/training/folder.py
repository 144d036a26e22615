"""Run folders on disk: where things lie, and the configuration that a run was started with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from agents.config.schema import TrainConfig, typed
from reason_envs.errors import ReasonEnvsError

CONFIG_FILE = "config.yaml"
"""A run's configuration; it is written once everything that acts in the run is built."""
CHECKPOINTS = "checkpoints"
"""The folder of checkpoints, ``step_N`` each."""


def read_config(folder: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read the configuration that a run folder was written with, and change it by ``key=value`` overrides."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ReasonEnvsError(f"{folder} is no run folder: it has no {CONFIG_FILE}.")
    changes = OmegaConf.from_dotlist(list(overrides))
    raw: Any = OmegaConf.to_container(OmegaConf.merge(OmegaConf.load(path), changes))
    return typed(raw)


def write_config(folder: Path, config: TrainConfig) -> None:
    """Write the whole configuration, defaults included."""
    OmegaConf.save(OmegaConf.structured(config), folder / CONFIG_FILE)
