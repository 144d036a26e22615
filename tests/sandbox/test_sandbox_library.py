"""Copies of the standard library for native programs."""

import fcntl
import tempfile
from pathlib import Path

import pytest

from reason_envs.errors import EngineError
from reason_envs.sandbox import library


@pytest.fixture
def small_library(tmp_path, monkeypatch):
    """A library of one file, copied to an empty folder of temporary files."""
    source, target = tmp_path / "stdlib", tmp_path / "tmp"
    source.mkdir()
    target.mkdir()
    (source / "os.py").write_text("")
    monkeypatch.setattr(library, "library", lambda: str(source))
    held = []  # keeps the lock of the copy
    monkeypatch.setattr(library.atexit, "register", lambda *arguments: held.append(arguments))
    monkeypatch.setattr(library, "shared_folder", lambda: target)
    library.copied_library.cache_clear()
    yield target
    library.copied_library.cache_clear()
    for _, _, lock, _ in held:
        lock.close()


def test_copy_survives_a_process_that_starts_at_the_same_moment(small_library, monkeypatch):
    make = tempfile.mkdtemp

    def interrupted(**options):
        folder = make(**options)
        library.remove_abandoned()  # as the other process does before it copies
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", interrupted)
    copy = Path(library.copied_library())
    library.remove_abandoned()
    assert (copy / "os.py").exists()


def test_copy_of_a_killed_process_is_removed(small_library):
    abandoned, held = small_library / f"{library.COPY}a", small_library / f"{library.COPY}b"
    for folder in (abandoned, held):
        folder.mkdir()
    with open(held / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        library.remove_abandoned()
        assert held.exists()
    assert not abandoned.exists()


def test_copy_lies_where_other_users_can_read_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # pytest makes it for this user alone
    assert not library.is_open(str(tmp_path))
    assert library.is_open(str(library.shared_folder()))


def test_copy_is_refused_where_no_folder_is_open(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(library, "is_open", lambda folder: False)
    with pytest.raises(EngineError, match=rf"cannot reach the temporary folder {tmp_path}: chmod 755 it"):
        library.shared_folder()
