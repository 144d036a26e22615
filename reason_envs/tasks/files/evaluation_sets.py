"""Public benchmarks by name: where the problems are, what kind they are, and how a model is asked for an answer."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reason_envs.resources import read_table
from reason_envs.tasks.files.records import SUFFIXES

DATA_VARIABLE = "REASON_ENVS_DATA"
"""Environment variable with the folder of local copies. Without it, problems are downloaded from the hub."""

BENCHMARKS: Mapping[str, Mapping[str, Any]] = read_table(__file__, "evaluation_sets.yaml")
"""Benchmarks by name. The file explains their entries."""


def benchmark_tasks(name: str, folder: Path | None = None) -> dict[str, Any]:
    """Return the task family and options with which a benchmark is read.

    A local copy in ``folder`` is ``NAME/train.*`` and ``NAME/test.*``, one other file in ``NAME``, or ``NAME.*``.
    ``folder=None`` is the value of ``REASON_ENVS_DATA``. Without a local copy, the hub is used.
    """
    entry = BENCHMARKS[name]
    data = os.environ.get(DATA_VARIABLE) if folder is None else folder
    files: list[Path] = []
    if data:
        place = Path(data).expanduser()
        found = (place / name).glob("*") if (place / name).is_dir() else place.glob(f"{name}.*")
        files = sorted(file for file in found if file.name.endswith(SUFFIXES))
    splits = {split: str(file) for file in files for split in ("train", "test") if file.name.startswith(f"{split}.")}
    if splits or len(files) == 1:
        return {"name": entry["family"], "path": splits or str(files[0])}
    return {"name": "hub", "format": entry["family"], **entry["hub"]}
