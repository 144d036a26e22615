"""Public benchmarks by name: where the problems are, what kind they are, and how a model is asked for an answer."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reason_envs.tasks.files.records import SUFFIXES

DATA_VARIABLE = "REASON_ENVS_DATA"
"""Environment variable with the folder of local copies. Without it, problems are downloaded from the hub."""


@dataclass(frozen=True)
class Benchmark:
    """A public data set that evaluations name."""

    domain: str
    """Kind of the problems: ``math``, ``qa`` or ``code``."""
    hub: Mapping[str, Any]
    """Options of the family ``hub`` for the data set on the hub."""
    family: str = "math"
    """Family that reads a local copy."""
    system_prompt: str | None = None
    """Text that asks for an answer which can be graded, for environments without a prompt for the domain. ``None``: the
    environment has one."""


_TABLE = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
BENCHMARKS = {name: Benchmark(**entry) for name, entry in yaml.safe_load(_TABLE).items()}
"""Benchmarks by name."""


def benchmark_tasks(name: str, folder: Path | None = None) -> dict[str, Any]:
    """Return the task family and options with which a benchmark is read.

    A local copy in ``folder`` is ``NAME/train.*`` and ``NAME/test.*``, one other file in ``NAME``, or ``NAME.*``.
    ``folder=None`` is the value of ``REASON_ENVS_DATA``. Without a local copy, the hub is used.
    """
    entry = BENCHMARKS[name]
    data = os.environ.get(DATA_VARIABLE) if folder is None else folder
    files = _local(Path(data).expanduser(), name) if data else []
    splits = {split: str(file) for file in files for split in ("train", "test") if file.name.startswith(f"{split}.")}
    if splits or len(files) == 1:
        return {"name": entry.family, "path": splits or str(files[0])}
    return {"name": "hub", "format": entry.family, **entry.hub}


def _local(folder: Path, name: str) -> list[Path]:
    """Return the files of a benchmark in a folder of local copies."""
    places = sorted((folder / name).glob("*")) if (folder / name).is_dir() else sorted(folder.glob(f"{name}.*"))
    return [place for place in places if place.name.endswith(SUFFIXES)]
