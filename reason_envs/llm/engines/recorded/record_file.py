"""Records: what models answered, in a file that answers again without them.

A record is a text file of JSON objects, one a line. The first line names the format's version. Every other line belongs
to a kind (``generation`` or ``step_scores``; one file may hold both) and is its source, the model that answered, or an
entry, a key and its value. Lines are only ever appended, each with one write, so that a stopped run loses nothing.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

from reason_envs.errors import ReasonEnvsError

VERSION = 1
"""Of the format."""

_log = logging.getLogger(__name__)


class RecordFile:
    """The entries of one kind in a record; the first entry of a key counts.

    Args:
        path: the file.
        kind: which entries; others are left alone.
        source: the model that will answer what is missing: the file is made where there is none, and one that another
            model answered is refused. ``None`` only reads.

    Raises:
        ReasonEnvsError: the file is missing (and nothing would fill it), is no record, or has another source.
    """

    def __init__(self, path: str | Path, kind: str, source: dict[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.kind = kind
        self.source: dict[str, Any] = {}
        """What the record says about the model that answered."""
        self._lines: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._file: int | None = None
        if source is None and not self.path.is_file():
            raise ReasonEnvsError(
                f"There is no record {str(self.path)!r}: make it first, by the same run with `live` set to the model "
                "that answers."
            )
        if self.path.is_file():
            self._load()
        if source is not None:
            self._claim(source)

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, key: str) -> bool:
        return key in self._lines

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Return the value of a key; it is parsed anew at each call, so that a large record stays small in memory."""
        return json.loads(self._lines[key])["value"]

    def add(self, key: str, value: dict[str, Any]) -> None:
        """Append an entry, unless its key has one."""
        with self._lock:
            if key not in self._lines:
                self._lines[key] = self._append({"kind": self.kind, "key": key, "value": value})

    def close(self) -> None:
        """Make sure that what was appended is on the disk, and close the file; adding more opens it again."""
        with self._lock:
            if self._file is not None:
                os.fsync(self._file)
                os.close(self._file)
                self._file = None

    def _claim(self, source: dict[str, Any]) -> None:
        """Name the model that answers from now on; it must be the one that answered so far."""
        if not self.source:
            self.source = source
            self._append({"kind": self.kind, "source": source})
        elif self.source != source:
            raise ReasonEnvsError(
                f"The record {str(self.path)!r} was answered by {self.source}, and now {source} would answer: choose "
                "another path, or the same model."
            )

    def _load(self) -> None:
        *lines, rest = self.path.read_bytes().split(b"\n")
        if rest:
            _log.warning("%s: the last line was cut off while it was written and is left out", self.path)
        for number, line in enumerate(lines, start=1):
            self._read(line, number)

    def _read(self, line: bytes, number: int) -> None:
        try:
            match json.loads(line):
                case {"record": int(version)} if number == 1:
                    self._check_version(version)
                case {"kind": self.kind, "key": str(key), "value": {}} if number > 1:
                    self._lines.setdefault(key, line)
                case {"kind": self.kind, "source": dict(source)} if number > 1:
                    self.source = source
                case {"kind": str(kind)} if number > 1 and kind != self.kind:
                    pass
                case _:
                    raise ValueError("not what belongs there")
        except ValueError as error:
            raise ReasonEnvsError(
                f"{self.path}, line {number} is no line of a record ({error}): mend or delete the line."
            ) from error

    def _check_version(self, version: int) -> None:
        if version != VERSION:
            raise ReasonEnvsError(
                f"The record {str(self.path)!r} has version {version}; this library reads version {VERSION}."
            )

    def _append(self, entry: dict[str, Any]) -> bytes:
        if self._file is None:
            self._file = self._open()
        line = json.dumps(entry, ensure_ascii=False).encode()
        os.write(self._file, line + b"\n")
        return line

    def _open(self) -> int:
        """Open for appending, after whole lines only, the first of which names the version."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        held = self.path.read_bytes()
        whole = held.rfind(b"\n") + 1
        os.ftruncate(file, whole)
        if not whole:
            os.write(file, json.dumps({"record": VERSION}).encode() + b"\n")
        return file
