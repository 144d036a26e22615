"""Files of raw rows: one JSON object per line, written as the results come, so that a command can continue."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read(file: Path) -> list[Row]:
    """Return the rows of a file. A missing file has none."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def append(file: Path, rows: Iterable[Row]) -> None:
    """Add rows at the end of a file."""
    with file.open("a", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)
