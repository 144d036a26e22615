"""The run folder: what lies where, whether a run may use it, and the configuration that it was started with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from agents import distributed
from agents.config.schema import TrainConfig, typed
from agents.tracking import hub
from agents.tracking.model_card import COMMAND
from agents.tracking.tracker import NullTracker, Tracker
from agents.training import checkpoint
from agents.training.resolve import RunPlan
from reason_envs.errors import ReasonEnvsError, RunError

CONFIG_FILE = "config.yaml"
"""A run's configuration. It exists once everything that acts in the run is built."""
CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints, one ``step_N`` each."""


def read_config(folder: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read the configuration of a run folder and change it by ``key=value`` overrides.

    Raises:
        RunError: the folder is not a run folder.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise RunError(f"{folder} is not a run folder: {CONFIG_FILE} is missing.")
    changes = OmegaConf.from_dotlist(list(overrides))
    raw: Any = OmegaConf.to_container(OmegaConf.merge(OmegaConf.load(path), changes))
    return typed(raw)


def write_config(folder: Path, config: TrainConfig) -> None:
    """Write the whole configuration, defaults included."""
    OmegaConf.save(OmegaConf.structured(config), folder / CONFIG_FILE)


def check_start(plan: RunPlan, *, resuming: bool = False) -> None:
    """Check, before anything is computed, that a run can keep its results.

    Raises:
        ReasonEnvsError: the folder of a new run holds a run, the folder of a resumed run holds no checkpoint, or the
            Hugging Face hub refuses the repository of ``push_to_hub``.
    """
    if resuming:
        checkpoint.latest(plan.folder / CHECKPOINTS)
    elif distributed.rank() == 0 and (plan.folder / CONFIG_FILE).exists():
        raise output_dir_in_use(plan.folder)
    if plan.config.push_to_hub and distributed.rank() == 0:
        hub.create_repository(plan.config.push_to_hub)


def output_dir_in_use(folder: Path) -> RunError:
    """Build the error for a new run in the folder of another one."""
    trained = {path.name for path in (folder / CHECKPOINTS).glob("step_*")} - {"step_0"}
    empty = "" if trained else " No training step of it is saved, so nothing is lost."
    return RunError(
        f"output_dir={folder} holds a run already. Continue it with resume={folder}, choose another output_dir, or "
        f"delete the folder.{empty}"
    )


def open_folder(plan: RunPlan, total_steps: int, *, resuming: bool, command: str | None) -> Tracker | NullTracker:
    """Write configuration and command into the run folder and return the run's tracker; only one process has one.

    Everything else is built by now, so a run that cannot start leaves no folder behind.

    Raises:
        ReasonEnvsError: a dashboard cannot be used, or the folder of a new run holds a run.
    """
    if distributed.rank() > 0:
        return NullTracker()
    config, folder = plan.config, plan.folder
    if not resuming and (folder / CONFIG_FILE).exists():
        raise output_dir_in_use(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, config)
    try:
        tracker = Tracker(folder, total_steps, wandb=config.wandb, log_every=config.log_every)
    except ReasonEnvsError:
        if not resuming:
            (folder / CONFIG_FILE).unlink()
        raise
    if command is not None:
        with (folder / COMMAND).open("a", encoding="utf-8") as file:
            file.write(f"{command}\n")
    return tracker
