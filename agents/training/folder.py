"""The run folder: what lies where, whether a run may use it, and the configuration that it was started with."""

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from agents import distributed
from agents.config.schema import GROUPS, TrainConfig, flat, typed
from agents.tracking import hub
from agents.tracking.metrics_file import read_rows
from agents.tracking.run_record import RUN_FILE, record_start
from agents.tracking.tracker import NullTracker, Tracker
from agents.training import checkpoint
from agents.training.resolve import RunPlan
from reason_envs.errors import ReasonEnvsError, RunError, reading
from reason_envs.resources import replace_file

CONFIG_FILE = "config.yaml"
"""A run's configuration. It exists once everything that acts in the run is built."""
OWNER = "owner.lock"
"""File that the process of a run locks; its text names the latest owner."""
MAY_DIFFER = (
    *("steps", "epochs", "max_minutes", "eval_every", "eval_tasks", "eval_samples", "eval_episodes", "save_every"),
    *("keep_last", "log_every", "wandb", "wandb_project", "wandb_run_name", "push_to_hub"),
    *("output_dir", "resume", "init_from", "cluster"),
)
"""Options that can change when a run is resumed: its length, how often it records, paths, and processes."""
LOGS = ("metrics.jsonl", "summary.log", "train.log")
"""Files to which a run appends."""
CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints, one ``step_N`` each."""


def read_config(folder: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read the configuration of a run folder and change it by ``key=value`` overrides.

    Raises:
        RunError: the folder is not a run folder.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise RunError(f"{folder} is not a run folder: {CONFIG_FILE} is missing. Check the path.")
    with reading(path, f"Restore it, or start a new run with init_from={folder / CHECKPOINTS}/step_N."):
        config = OmegaConf.create(dict(OmegaConf.load(path)))
        typed({"env": config["env"], **OmegaConf.to_container(config)})  # type: ignore[dict-item]
    for override in overrides:
        key = override.partition("=")[0]
        value = OmegaConf.select(OmegaConf.from_dotlist([override]), key)
        part = {"name": value} if key in GROUPS and isinstance(value, str) else value
        OmegaConf.update(config, key, part, merge=False, force_add=True)
    return typed(OmegaConf.to_container(config))  # type: ignore[arg-type]


def write_config(folder: Path, config: TrainConfig) -> None:
    """Write the whole configuration, defaults included."""
    replace_file(folder / CONFIG_FILE, OmegaConf.to_yaml(OmegaConf.structured(config)))


def plain_config(config: TrainConfig) -> Any:
    """Return a configuration as plain data, defaults included."""
    return OmegaConf.to_container(OmegaConf.structured(config))


def check_same_config(config: TrainConfig, path: Path) -> None:
    """Check that a checkpoint belongs to a configuration, apart from the options in ``MAY_DIFFER``.

    Raises:
        RunError: other options differ; the message names them.
    """
    saved = checkpoint.read_state(path).get("config")
    theirs, ours = (flat(plain_config(each)) for each in (typed(saved) if saved else config, config))
    listed = ", ".join(
        f"{key} ({theirs.get(key)!r:.60} -> {ours.get(key)!r:.60})"
        for key in {**theirs, **ours}
        if theirs.get(key) != ours.get(key) and key.partition(".")[0] not in MAY_DIFFER
    )
    if listed:
        raise RunError(
            f"{path} was trained with other options than {CONFIG_FILE} has now: {listed}. Restore these values to "
            f"resume the run, or start a new run with init_from={path}. Only {', '.join(MAY_DIFFER)} can change."
        )


@contextmanager
def owning(folder: Path) -> Iterator[None]:
    """Own a run folder until the context or the process ends, however it ends. It is created, and removed if empty.

    Raises:
        RunError: another process owns the folder, or it cannot be written.
    """
    try:
        str(folder).encode()  # as libraries do that write there
        folder.mkdir(parents=True, exist_ok=True)
        _check_entries(folder)
        file = (folder / OWNER).open("a+", encoding="utf-8")
    except (OSError, UnicodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not valid Unicode"
        raise RunError(f"output_dir={folder} cannot be written ({cause}): choose another.") from error
    with file:
        try:
            if sys.platform != "win32":  # which has no such lock
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(file.fileno()).st_nlink:  # its owner has just deleted it
                raise BlockingIOError
        except BlockingIOError:
            file.seek(0)
            raise RunError(
                f"output_dir={folder} is in use by another run ({file.read() or 'just started'}). Choose another "
                "output_dir, or wait until that run has ended."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            if [path.name for path in folder.iterdir()] == [OWNER]:  # the run did not start
                (folder / OWNER).unlink()
                folder.rmdir()


def _check_entries(folder: Path) -> None:
    """Check that the run can write into its folder, before a model is loaded for it."""
    for path in (folder, *folder.iterdir()):
        is_file = path.name in (CONFIG_FILE, OWNER, RUN_FILE, *LOGS)
        if path != folder and not (path.is_file() if is_file else path.is_dir() or path.name != CHECKPOINTS):
            kind = "file" if is_file else "folder"  # a named pipe would stop the run for ever
            raise RunError(f"{path} must be a {kind}: move it, or choose another output_dir.")
        if not os.access(path, os.W_OK):
            raise RunError(f"{path} cannot be written: change its rights, or choose another output_dir.")


def check_start(plan: RunPlan, *, resuming: bool = False) -> None:
    """Check, before anything is computed, that a run can keep its results.

    Raises:
        ReasonEnvsError: the folder of a new run holds a run, the folder of a resumed run holds no checkpoint or one of
            another configuration, or the Hugging Face hub refuses the repository of ``push_to_hub``.
    """
    if resuming:
        check_same_config(plan.config, checkpoint.latest(plan.folder / CHECKPOINTS))
    elif distributed.rank() == 0 and (plan.folder / CONFIG_FILE).exists():
        if checkpoint.exists(plan.folder / CHECKPOINTS) or any(row["step"] for row in read_rows(plan.folder / LOGS[0])):
            trained = {path.name for path in (plan.folder / CHECKPOINTS).glob("step_*")} - {"step_0"}
            empty = "" if trained else " No training step of it is saved, so nothing is lost."
            raise RunError(
                f"output_dir={plan.folder} holds a run already. Continue it with resume={plan.folder}, choose another "
                f"output_dir, or delete the folder.{empty}"
            )
        for name in (CONFIG_FILE, *LOGS):  # it was killed before its first checkpoint and its first step
            (plan.folder / name).unlink(missing_ok=True)
    if plan.config.push_to_hub and distributed.rank() == 0:
        hub.create_repository(plan.config.push_to_hub)


def open_folder(plan: RunPlan, total_steps: int, *, resuming: bool, command: str | None) -> Tracker | NullTracker:
    """Write configuration and command into the run folder and return the run's tracker; only one process has one.

    Everything else is built by now, so a run that cannot start leaves no folder behind.

    Raises:
        ReasonEnvsError: a dashboard cannot be used.
    """
    if distributed.rank() > 0:
        return NullTracker()
    config, folder = plan.config, plan.folder
    write_config(folder, config)
    record_start(folder, command, resuming=resuming)
    try:
        return Tracker(folder, total_steps, wandb=config.wandb, log_every=config.log_every)
    except ReasonEnvsError:
        if not resuming:
            (folder / CONFIG_FILE).unlink()
            (folder / RUN_FILE).unlink()
        raise
