"""The record of a run's starts: the identity of the run, and when, how, with what and where each start ran."""

import json
import os
import platform
import secrets
import shutil
import subprocess
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reason_envs import __version__
from reason_envs.errors import reading
from reason_envs.resources import replace_file

RUN_FILE = "run.json"
"""File of a run folder with ``id`` and ``starts``. A run in a folder that was created again has another ``id``."""


def record_start(folder: Path, command: str | None, *, resuming: bool) -> None:
    """Add a start by a command (``None``: from Python) to the record of a run. A new run gets a new record."""
    record = (read_record(folder) if resuming else {}) or {"id": secrets.token_hex(8), "starts": []}
    record["starts"].append({"command": command, **_facts()})
    replace_file(folder / RUN_FILE, json.dumps(record, indent=1) + "\n")


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a run; empty if its folder has none."""
    path = folder / RUN_FILE
    with reading(path, "Restore or delete it."):
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _facts() -> dict[str, Any]:
    import torch

    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return {
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "reason_envs": __version__,
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "python": platform.python_version(),
        "commit": _commit(),
        "machine": f"{platform.platform()}, {os.cpu_count()} CPUs{device}",
    }


def _commit() -> str | None:
    """Return the commit of the working directory, with ``-dirty`` if its files differ; ``None`` outside of git."""
    if shutil.which("git") is None:
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
