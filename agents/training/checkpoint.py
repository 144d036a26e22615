"""Checkpoints: folders of safetensors and JSON that exist whole or not at all.

A checkpoint is written into a temporary folder, flushed to the disk and renamed to ``step_N``; its manifest lists every
file with size and digest. Nothing is pickled. One process writes into a folder of checkpoints at a time.
"""

from __future__ import annotations

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
from reason_envs.errors import ReasonEnvsError

MANIFEST = "manifest.json"
STATE = "state.json"
FORMAT = 1
TEMPORARY = ".tmp-"
REPLACED = "-replaced"
_STEP = re.compile(r"step_(\d+)")
_NAME = re.compile(r"[A-Za-z0-9_-]+")


class CheckpointError(ReasonEnvsError):
    """A checkpoint could not be written, or is not whole."""


def save(folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Path:
    """Write ``<folder>/step_<step>``; whatever happens, no half checkpoint gets that name.

    Args:
        folder: where checkpoints lie; made if absent. Leftovers of interrupted writes are removed.
        step: a checkpoint of the same step is replaced.
        tensors: each group becomes ``<group>.safetensors``.
        state: nested plain data (see ``agents.training.state_tree``), read back exactly.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: the disk is full or cannot be written; earlier checkpoints are as they were.
    """
    for name in tensors:
        if not _NAME.fullmatch(name):
            raise CheckpointError(f"Tensor group {name!r} cannot name a file: use letters, digits, _ and -.")
    encoded = _encode_state(state)
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
    """Read a checkpoint folder, on the CPU, after checking every file's presence, size and digest.

    Returns:
        The tensors by group, and the state, as ``save`` was given them.

    Raises:
        CheckpointError: names the file that is missing, cut short or changed.
    """
    files = _read_manifest(path)["files"]
    for name, entry in files.items():
        _check_file(path / name, entry)
    groups = [name for name in files if name != STATE]
    tensors = {name.removesuffix(".safetensors"): load_file(path / name) for name in groups}
    return tensors, unflatten({}, json.loads((path / STATE).read_text(encoding="utf-8")))


def latest(folder: Path) -> Path:
    """Return the checkpoint of the highest step.

    Raises:
        CheckpointError: there is none.
    """
    _undo_replacement(folder)
    found = _steps(folder)
    if not found:
        raise CheckpointError(
            f"{folder} holds no checkpoint (a folder step_N): give the folder of a run that saved one."
        )
    return found[max(found)]


def prune(folder: Path, keep_last: int, keep: set[int]) -> list[int]:
    """Delete all but the last checkpoints.

    Args:
        folder: where checkpoints lie.
        keep_last: how many of the highest steps to keep, at least 1.
        keep: further steps to keep, such as the best one's.

    Returns:
        The steps deleted.
    """
    if keep_last < 1:
        raise CheckpointError(f"keep_last={keep_last} must be at least 1: a run that keeps none cannot be resumed.")
    found = _steps(folder)
    deleted = [step for step in sorted(found)[:-keep_last] if step not in keep]
    for step in deleted:
        # Renamed first, so that an interrupted deletion leaves no half checkpoint behind.
        doomed = folder / f"{TEMPORARY}step_{step}-pruned"
        found[step].rename(doomed)
        shutil.rmtree(doomed)
    return deleted


def flatten_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], Any]:
    """Split an optimizer's ``state_dict`` (or any nested state, generators' included) into tensors and plain JSON.

    Returns:
        Tensors by path, and the structure that ``unflatten_optimizer`` puts them back into, bit for bit.
    """
    return flatten(state)


def unflatten_optimizer(tensors: Mapping[str, Tensor], structure: Any) -> Any:
    """Undo ``flatten_optimizer``."""
    return unflatten(tensors, structure)


def _steps(folder: Path) -> dict[int, Path]:
    matches = {path: _STEP.fullmatch(path.name) for path in folder.iterdir()} if folder.is_dir() else {}
    return {int(match[1]): path for path, match in matches.items() if match and path.is_dir()}


def _encode_state(state: Mapping[str, Any]) -> str:
    tensors, structure = flatten(state)
    if tensors:
        raise CheckpointError(f"state holds a tensor at {next(iter(tensors))!r}: put it into a group of tensors.")
    return json.dumps(structure, indent=1, allow_nan=False) + "\n"


def _write_files(folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], encoded_state: str) -> None:
    (folder / STATE).write_text(encoded_state, encoding="utf-8")
    for name, group in tensors.items():
        save_file(_separate(group), folder / f"{name}.safetensors")
    files = {path.name: _describe(path) for path in sorted(folder.iterdir())}
    manifest = {"format": FORMAT, "step": step, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    for path in (*folder.iterdir(), folder):
        _flush(path)


def _separate(group: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the CPU that share no memory (tied weights do), as safetensors wants them."""
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
    _flush(target.parent)
    if old.exists():
        shutil.rmtree(old)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _undo_replacement(folder: Path) -> None:
    """Give a checkpoint its name back whose replacement was interrupted between the two renames."""
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
            f"{path} is no whole checkpoint: it lacks {MANIFEST}. Give a folder .../checkpoints/step_N."
        )
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"{path / MANIFEST} is damaged ({error}). Delete that folder to use the one before."
        ) from error
    if manifest["format"] != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {manifest['format']}; this version reads {FORMAT}.")
    return manifest


def _check_file(path: Path, expected: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise CheckpointError(
            f"Checkpoint {path.parent} lacks the file {path.name}. Delete that folder to use the one before."
        )
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise CheckpointError(
            f"{path} has {size} bytes instead of {expected['bytes']}. Delete that folder to use the one before."
        )
    if _describe(path) != expected:
        raise CheckpointError(
            f"{path} is damaged: its digest is not the manifest's. Delete that folder to use the one before."
        )


def _failure(folder: Path, target: Path, error: Exception) -> str:
    found = _steps(folder)
    last = f"the last good checkpoint is {found[max(found)]}" if found else "there is no earlier checkpoint"
    room = f" ({shutil.disk_usage(folder).free / 2**20:.0f} MiB free)" if folder.is_dir() else ""
    message = f"Checkpoint {target} could not be written: {error}{room}; {last}."
    return f"{message} Free disk space or lower keep_last, then resume."
