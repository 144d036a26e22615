"""Reading records from JSON and JSON-lines files, with errors that name file and line."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reason_envs.errors import ReasonEnvsError, reading
from reason_envs.validation import require

TABLES = (".csv", ".parquet")
SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz", *TABLES)
"""Endings of the names of files that can be read."""

Record = dict[str, Any]
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_records(path: Path) -> list[tuple[str, Record]]:
    """Read the records of a file.

    Args:
        path: a ``.json`` file (an array of objects) or a ``.jsonl`` file (one object per line; empty lines are
            ignored), either compressed as ``.gz`` or not; or a ``.csv`` or ``.parquet`` file, whose columns are fields.

    Returns:
        Each record with its place for errors, such as ``"train.jsonl, line 3"``.

    Raises:
        ReasonEnvsError: the file is missing, empty or malformed.
    """
    with reading(path, "Fix or replace the file."):
        text = _table_as_lines(path) if path.suffix in TABLES and path.is_file() else read_text(path, SUFFIXES)
        lines = path.name.removesuffix(".gz").endswith((".jsonl", *TABLES))
        records = list(_parse_lines(path, text) if lines else _parse_array(path, text))
    if not records:
        raise ReasonEnvsError(f"The file {path} has no records; a task set needs at least one.")
    is_escaped = re.search(r"\\u[dD]", text) is not None
    for place, record in records:
        if not isinstance(record, dict):
            raise ReasonEnvsError(f"{place}: a record must be an object, not {type(record).__name__}: {record!r:.80}.")
        if is_escaped and (half := _SURROGATE.search(json.dumps(record, ensure_ascii=False))):
            raise ReasonEnvsError(
                f"{place}: half of a surrogate pair, {half[0]!a}, is not a valid character. Fix or remove the record."
            )
    return records


def _table_as_lines(path: Path) -> str:
    """Return the rows of a table as lines of JSON. Values of a CSV file are texts."""
    require(f"Reading {path.name}", "data")
    import pandas

    try:
        csv = path.suffix == ".csv"
        frame = pandas.read_csv(path, dtype=str, keep_default_na=False) if csv else pandas.read_parquet(path)
    except (OSError, ValueError) as error:  # pandas and pyarrow raise subclasses of these
        raise ReasonEnvsError(f"Cannot read {path}: {error}.") from error
    return str(frame.to_json(orient="records", lines=True, double_precision=15))


def read_text(path: Path, suffixes: tuple[str, ...]) -> str:
    """Return the text of a file in UTF-8, with or without a byte order mark.

    Raises:
        ReasonEnvsError: the file is missing, has another suffix, or is not in UTF-8.
    """
    if not path.name.endswith(suffixes):
        raise ReasonEnvsError(f"The format of {path} is unknown: the file name must end in {' or '.join(suffixes)}.")
    if not path.is_file():
        raise ReasonEnvsError(f"The file {path} does not exist in {path.parent.absolute()}.")
    with reading(path, "Fix or replace the file."):
        data = path.read_bytes()
        return (gzip.decompress(data) if path.name.endswith(".gz") else data).decode("utf-8-sig")


def _parse_lines(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            with reading(f"{path}, line {number},", f"It must be a JSON object: {line:.80}"):
                record = json.loads(line)
            yield f"{path}, line {number}", record


def _parse_array(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    if not text.strip():
        return
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        hint = " A file with one object per line must be named .jsonl." if error.msg == "Extra data" else ""
        raise ReasonEnvsError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg} at column {error.colno}).{hint}"
        ) from error
    if not isinstance(records, list):
        raise ReasonEnvsError(f"{path} must contain an array of objects, not {type(records).__name__}.")
    for number, record in enumerate(records, start=1):
        yield f"{path}, record {number}", record
