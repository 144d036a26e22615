"""Checkpoints: folders of safetensors and JSON files that are written atomically.

A checkpoint is written to a temporary folder, flushed to the disk and renamed to ``step_N``. Its manifest lists every
file with its size and digest. Nothing is pickled. Only one process may write to a folder of checkpoints.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from agents.training.state_tree import flatten, unflatten
from reason_envs.errors import RunError, reading

MANIFEST = "manifest.json"
"""File that lists all files of a checkpoint."""
STATE = "state.json"
"""File with the state that is not a tensor."""
FORMAT = 1
"""Version of the checkpoint format."""
TEMPORARY = ".tmp-"
"""Prefix of folders that are being written or deleted."""
REPLACED = "-replaced"
"""Suffix of a checkpoint that is being replaced."""
_FIX = "Delete that folder to use the previous checkpoint."
_STEP = re.compile(r"step_(\d+)")
_NAME = re.compile(r"[A-Za-z0-9_-]+")


class CheckpointError(RunError):
    """A checkpoint could not be written, or is incomplete."""


def save(folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Path:
    """Write the checkpoint ``<folder>/step_<step>``, and return it. An incomplete checkpoint never gets that name.

    Each group of tensors is written to ``<group>.safetensors``. ``state`` is nested plain data (see
    `agents.training.state_tree`), which `load` returns unchanged. A checkpoint of the same step is replaced, and
    leftovers of interrupted writes are removed.

    Raises:
        CheckpointError: the disk is full or cannot be written. Earlier checkpoints are unchanged.
    """
    for name in tensors:
        if not _NAME.fullmatch(name):
            raise CheckpointError(f"Tensor group {name!r} is not a valid file name: use letters, digits, _ and -.")
    in_state, structure = flatten(state)
    if in_state:
        raise CheckpointError(f"The state has a tensor at {next(iter(in_state))!r}: pass it in a group of tensors.")
    encoded = json.dumps(structure, indent=1, allow_nan=False) + "\n"
    target = folder / f"step_{step}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}step_{step}-", dir=folder))
        _write_files(temporary, step, tensors, encoded)
        _put_in_place(temporary, target)
    except (OSError, SafetensorError) as error:
        _remove_leftovers(folder)
        raise CheckpointError(_failure(folder, target, error)) from error
    return target


def load(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Check the size and digest of every file, then load tensors and state on the CPU, as they were passed to `save`.

    Raises:
        CheckpointError: a file is missing, truncated or changed; the message names it.
    """
    with reading(path, _FIX):
        files = _read_manifest(path)["files"]
        for name, entry in files.items():
            _check_file(path / name, entry)
        groups = [name for name in files if name != STATE]
        tensors = {name.removesuffix(".safetensors"): load_file(path / name) for name in groups}
        return tensors, read_state(path)


def read_state(path: Path) -> dict[str, Any]:
    """Read the state of a checkpoint that is not a tensor, without checking the other files."""
    with reading(path, _FIX):
        entry = _read_manifest(path)["files"].get(STATE)
        if entry is None:
            raise CheckpointError(f"Checkpoint {path} is incomplete: its manifest lacks {STATE}. {_FIX}")
        _check_file(path / STATE, entry)
        state: dict[str, Any] = unflatten({}, json.loads((path / STATE).read_text(encoding="utf-8")))
        return state


def latest(folder: Path) -> Path:
    """Return the checkpoint of the highest step. An error if there is none."""
    _undo_replacement(folder)
    found = _steps(folder)
    if not found:
        raise CheckpointError(
            f"{folder} holds no checkpoint (a folder step_N): give the folder of a run that has saved one, or start "
            "the run again with the same command."
        )
    return found[max(found)]


def exists(folder: Path) -> bool:
    """Return whether the folder holds a checkpoint."""
    return bool(_steps(folder))


def prune(folder: Path, keep_last: int, keep: set[int]) -> list[int]:
    """Delete all but the ``keep_last`` checkpoints with the highest steps, and return the deleted steps.

    ``keep`` names further steps to keep, such as the step with the best accuracy.

    Raises:
        CheckpointError: ``keep_last`` is below 1.
    """
    if keep_last < 1:
        raise CheckpointError(f"keep_last={keep_last} must be at least 1: a run without checkpoints cannot be resumed.")
    found = _steps(folder)
    deleted = [step for step in sorted(found)[:-keep_last] if step not in keep]
    for step in deleted:
        # Renamed first, so that an interrupted deletion leaves no incomplete checkpoint behind.
        doomed = folder / f"{TEMPORARY}step_{step}-pruned"
        found[step].rename(doomed)
        shutil.rmtree(doomed)
    return deleted


def _steps(folder: Path) -> dict[int, Path]:
    matches = {path: _STEP.fullmatch(path.name) for path in folder.iterdir()} if folder.is_dir() else {}
    return {int(match[1]): path for path, match in matches.items() if match and path.is_dir()}


def _write_files(folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], encoded_state: str) -> None:
    (folder / STATE).write_text(encoded_state, encoding="utf-8")
    for name, group in tensors.items():
        save_file(_separate(group), folder / f"{name}.safetensors")
    files = {path.name: _describe(path) for path in sorted(folder.iterdir())}
    manifest = {"format": FORMAT, "step": step, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    for path in (*folder.iterdir(), folder):
        flush(path)


def _separate(group: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU without shared memory (tied weights share it), as safetensors requires."""
    seen: set[int] = set()
    result = {}
    for name, tensor in group.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage().data_ptr()
        result[name] = plain.clone() if storage in seen else plain
        seen.add(storage)
    return result


def _put_in_place(temporary: Path, target: Path) -> None:
    old = target.parent / f"{TEMPORARY}{target.name}{REPLACED}"
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    flush(target.parent)
    if old.exists():
        shutil.rmtree(old)


def flush(path: Path) -> None:
    """Write a file or a folder to the disk, so that it survives a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _undo_replacement(folder: Path) -> None:
    """Restore the name of a checkpoint whose replacement was interrupted between the two renames."""
    for old in folder.glob(f"{TEMPORARY}step_*{REPLACED}"):
        target = folder / old.name.removeprefix(TEMPORARY).removesuffix(REPLACED)
        if not target.exists():
            old.rename(target)


def _remove_leftovers(folder: Path) -> None:
    _undo_replacement(folder)
    for leftover in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover)


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _read_manifest(path: Path) -> Any:
    if not (path / MANIFEST).is_file():
        raise CheckpointError(
            f"{path} is not a complete checkpoint: {MANIFEST} is missing. Give a folder .../checkpoints/step_N."
        )
    with reading(path / MANIFEST, _FIX):
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    if manifest["format"] != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {manifest['format']}; this version reads format {FORMAT}.")
    return manifest


def _check_file(path: Path, expected: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise CheckpointError(f"Checkpoint {path.parent} is incomplete: {path.name} is missing. {_FIX}")
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise CheckpointError(f"{path} has {size} bytes instead of {expected['bytes']}. {_FIX}")
    if _describe(path) != expected:
        raise CheckpointError(f"{path} is damaged: its digest differs from the manifest. {_FIX}")


def _failure(folder: Path, target: Path, error: Exception) -> str:
    found = _steps(folder)
    last = f"the last complete checkpoint is {found[max(found)]}" if found else "there is no earlier checkpoint"
    room = f" ({shutil.disk_usage(folder).free / 2**20:.0f} MiB free)" if folder.is_dir() else ""
    message = f"Checkpoint {target} could not be written: {error}{room}; {last}."
    return f"{message} Free disk space or lower keep_last, then resume."
