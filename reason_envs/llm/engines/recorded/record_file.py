"""Records: answers of models in a file, from which they can be replayed without the models.

A record is a text file with one JSON object per line. The first line contains the version of the format. Each other
line has a kind (``generation`` or ``step_scores``; a file may contain both). It is either the source of that kind,
which describes the model that answered, or an entry with a key and a value. Lines are only appended, each with a single
write, so an interrupted run loses nothing.
"""

import json
import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reason_envs.errors import EngineError, OptionError

VERSION = 1
"""Version of the format."""

_log = logging.getLogger(__name__)


@dataclass
class RecordConfig:
    """Options of the engine and the reward model that answer from a record."""

    path: str = ""
    """Path of the record. A recorded engine and a recorded reward model may use the same file."""
    live: Any = None
    """Engine or reward model that answers and records the requests that are missing from the record: a name, a mapping
    with ``name`` and options, or an object; ``None``: a missing request is an error of the reward model, and the engine
    answers it without tokens and with ``finish_reason="exhausted"``."""

    def __post_init__(self) -> None:
        if not self.path:
            raise OptionError("path", self.path, "must be the path of a record.")


class RecordFile:
    """The entries of one kind in a record; others are ignored. If a key occurs several times, the first entry counts.

    ``source`` describes the model that will answer missing requests: the file is created if it does not exist, and an
    existing file must have the same source. ``None`` opens the file for reading.

    Raises:
        EngineError: the file is missing and ``source`` is ``None``, it is not a record, or it has another source.
    """

    def __init__(self, path: str | Path, kind: str, source: dict[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.kind = kind
        self.source: dict[str, Any] = {}
        """Description of the model that answered."""
        self._lines: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._file: int | None = None
        if source is None and not self.path.is_file():
            raise EngineError(
                f"The record {str(self.path)!r} does not exist. Make it first: run the same command with `live` set to "
                "the model that should answer."
            )
        if self.path.is_file():
            *lines, rest = self.path.read_bytes().split(b"\n")
            if rest:
                _log.warning("%s: the last line is incomplete and is ignored.", self.path)
            for number, line in enumerate(lines, start=1):
                self._read(line, number)
        if source is None:
            return
        if not self.source:
            self.source = source
            self._append({"kind": self.kind, "source": source})
        elif self.source != source:
            raise EngineError(
                f"The record {str(self.path)!r} was made with {self.source}, but the model is now {source}. Choose "
                "another path, or use the same model."
            )

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, key: str) -> bool:
        return key in self._lines

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Return the value of a key. It is parsed at each call, so a large record needs little memory."""
        return json.loads(self._lines[key])["value"]

    def add(self, key: str, value: dict[str, Any]) -> None:
        """Append an entry, unless the key exists."""
        with self._lock:
            if key not in self._lines:
                self._lines[key] = self._append({"kind": self.kind, "key": key, "value": value})

    def close(self) -> None:
        """Flush appended lines to disk and close the file. A later `add` opens it again."""
        with self._lock:
            if self._file is not None:
                os.fsync(self._file)
                os.close(self._file)
                self._file = None

    def _read(self, line: bytes, number: int) -> None:
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise self._bad_line(number, error) from error
        match entry:
            case {"record": version} if number == 1 and version == VERSION:
                pass
            case {"record": int(version)} if number == 1:
                raise EngineError(
                    f"The record {str(self.path)!r} has version {version}, but this library reads version {VERSION}."
                )
            case {"kind": self.kind, "key": str(key), "value": {}} if number > 1:
                self._lines.setdefault(key, line)
            case {"kind": self.kind, "source": dict(source)} if number > 1:
                self.source = source
            case {"kind": str(kind)} if number > 1 and kind != self.kind:
                pass
            case _:
                raise self._bad_line(number, "unexpected content")

    def _bad_line(self, number: int, reason: object) -> EngineError:
        return EngineError(f"{self.path}: line {number} is not a line of a record ({reason}). Correct or delete it.")

    def _append(self, entry: dict[str, Any]) -> bytes:
        if self._file is None:  # an incomplete last line is removed, and a new file gets the version
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            complete = self.path.read_bytes().rfind(b"\n") + 1
            os.ftruncate(file, complete)
            if not complete:
                os.write(file, json.dumps({"record": VERSION}).encode() + b"\n")
            self._file = file
        line = json.dumps(entry, ensure_ascii=False).encode()
        os.write(self._file, line + b"\n")
        return line
