"""The Python of native programs: its interpreter, its standard library, and the folders that it reads."""

import atexit
import os
import shutil
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import IO

from reason_envs.errors import EngineError

LEFT_OUT = shutil.ignore_patterns("site-packages", "test", "tests", "idlelib", "tkinter", "lib2to3", "ensurepip", "*.a")
"""Files that are left out of a copy of the library."""
COPY = "reason_envs_python_"
"""Prefix of the folder names of copies."""


def readable_paths() -> list[str]:
    """Return the folders and files that Python reads without installed packages."""
    own = [Path(library()), Path(interpreter())]
    own += [*Path(sys.base_prefix, "lib").resolve().glob("libpython*.so*")]
    shared = ["/lib", "/lib64", "/lib32", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo"]
    return list(dict.fromkeys([*map(str, own), *(path for path in shared if os.path.exists(path))]))


def interpreter() -> str:
    """Return the path of the Python on which this environment is based."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def library() -> str:
    """Return the folder of the standard library."""
    return str(Path(sysconfig.get_path("stdlib")).resolve())


def is_open(folder: str) -> bool:
    """Return whether all users can reach and read a folder."""
    return all(path.stat().st_mode & 0o5 == 0o5 for path in (Path(folder), *Path(folder).parents))


def shared_folder() -> Path:
    """Return a folder for temporary files that all users can reach: with a private ``TMPDIR``, a usual one."""
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if os.path.isdir(folder) and is_open(folder):
            return Path(folder)
    raise EngineError(
        f"Programs run as another user, who cannot reach the temporary folder {tempfile.gettempdir()}: "
        "chmod 755 it, or set TMPDIR to a folder that all users can read."
    )


def remove_abandoned() -> None:
    """Remove the copies of processes that were killed."""
    for other in shared_folder().glob(f"{COPY}*"):
        if lock := _lock(other):
            with lock:
                shutil.rmtree(other, ignore_errors=True)


@cache
def copied_library() -> str:
    """Copy the library for other users, because only root may be able to read its folder. Copies once per process."""
    remove_abandoned()
    unlocked = Path(tempfile.mkdtemp(prefix=f"new_{COPY}", dir=shared_folder()))
    lock = _lock(unlocked)
    folder = unlocked.rename(unlocked.with_name(unlocked.name.removeprefix("new_")))
    atexit.register(_remove, folder, lock, os.getpid())
    folder.chmod(0o755)
    return shutil.copytree(library(), str(folder / "lib"), ignore=LEFT_OUT)


def _lock(folder: Path) -> IO[str] | None:
    """Return a lock on a copy, held until the file is closed; ``None`` if another process holds it."""
    import fcntl

    try:
        file = open(folder / "lock", "a")  # noqa: SIM115
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _remove(folder: Path, lock: IO[str] | None, owner: int) -> None:
    if os.getpid() == owner:  # forked processes run this as well
        shutil.rmtree(folder, ignore_errors=True)
    if lock:
        lock.close()
