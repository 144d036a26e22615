"""The Python that native programs run on: its interpreter, its library and the folders it reads."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import IO

LEFT_OUT = shutil.ignore_patterns("site-packages", "test", "tests", "idlelib", "tkinter", "lib2to3", "ensurepip", "*.a")
"""What a copy of the library does without."""
COPY = "reason_envs_python_"
"""How the names of the folders of copies start."""


def readable_paths() -> list[str]:
    """Return the folders and files that a Python without packages reads."""
    own = [Path(library()), Path(interpreter())]
    own += [*Path(sys.base_prefix, "lib").resolve().glob("libpython*.so*")]
    shared = ["/lib", "/lib64", "/lib32", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo"]
    return list(dict.fromkeys([*map(str, own), *(path for path in shared if os.path.exists(path))]))


def interpreter() -> str:
    """Return the Python that this environment is based on."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def library() -> str:
    """Return the folder of the standard library."""
    return str(Path(sysconfig.get_path("stdlib")).resolve())


def is_open(folder: str) -> bool:
    """Whether any user may read a folder and come to it."""
    return all(path.stat().st_mode & 0o5 == 0o5 for path in (Path(folder), *Path(folder).parents))


@cache
def copied_library() -> str:
    """Copy the library once a process, for other users to read: ours may lie in a folder closed to all but root."""
    for other in Path(tempfile.gettempdir()).glob(f"{COPY}*"):
        if lock := _lock(other):  # its process was killed
            with lock:
                shutil.rmtree(other, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=COPY))
    atexit.register(_remove, folder, _lock(folder), os.getpid())
    folder.chmod(0o755)
    return shutil.copytree(library(), str(folder / "lib"), ignore=LEFT_OUT)


def _lock(folder: Path) -> IO[str] | None:
    """Return a lock on a copy, held until it is closed; ``None`` where another process holds it."""
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
    if os.getpid() == owner:  # a forked process runs this too
        shutil.rmtree(folder, ignore_errors=True)
    if lock:
        lock.close()
