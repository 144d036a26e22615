"""Isolation layers of native programs: which are available on this machine, and which required ones are missing.

``docs/sandboxes.md`` lists what each layer restricts. ``rlimits`` and ``no_new_privs`` are available on every Linux,
``uid`` if root runs the library. ``seccomp`` and one of ``landlock`` and ``bubblewrap`` are required as well.
"""

import base64
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from reason_envs.errors import EngineError, OptionError
from reason_envs.resources import read_text
from reason_envs.sandbox.library import interpreter, library, readable_paths

LANDLOCK_CREATE = 444
FIRST_UID, UIDS = 65520, 14
"""Unassigned user ids (65520 to 65533). Each worker of a root process uses one of them."""

INSIDE_BUBBLEWRAP = "/library"
"""Path of the standard library inside bubblewrap, readable by all users."""

ALLOWED = read_text(__file__, "system_calls.txt").split()
"""System calls that are allowed with any arguments. Others fail with "operation not permitted"."""
TERMINAL_QUESTIONS = (0x5401, 0x5413, 0x5421, 0x5450, 0x5451)
"""Allowed ``ioctl`` requests: whether it is a terminal, its size, (non-)blocking mode, close on exec."""
DESCRIPTOR_COMMANDS = (0, 1, 2, 3, 1030)
"""Allowed ``fcntl`` commands: copies, close on exec, and reading of the mode. Others send signals or lock files."""
F_SETFL, O_ASYNC = 4, 0o20000
CLONE_THREAD, OPEN_TO_WRITE, SOCK_STREAM, AF_UNIX = 0x10000, 0o3 | 0o100 | 0o1000 | 0o20000000, 1, 1


REQUIRED = ("seccomp", "files")
"""Layers that are required by default."""
FIXES = {
    "seccomp": "install the package pyseccomp and the system library libseccomp 2",
    "landlock": (kernel := "use a kernel of 5.13 or later with Landlock enabled"),
    "bubblewrap": (package := "install the package bubblewrap of your distribution where user namespaces are allowed"),
    "files": f"landlock or bubblewrap: {kernel}, or {package}",
    "uid": "run as root",
}
"""Layers that can be required, each with its fix. ``files`` is one of Landlock and bubblewrap."""


@dataclass(frozen=True)
class Layers:
    """Isolation layers of this machine."""

    landlock: int
    """Version of Landlock. 0: not available."""
    bubblewrap: str | None
    """Path of a working ``bwrap``. ``None``: not available."""
    seccomp: str | None
    """Compiled seccomp filter, which restricts system calls, encoded in base 64. ``None``: not available."""
    seccomp_missing: str
    """Explanation why the filter is not available. Empty if it is."""

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the active layers."""
        root = os.geteuid() == 0
        found = {"uid": root, "landlock": self.landlock, "bubblewrap": self.bubblewrap, "seccomp": self.seccomp}
        return ("rlimits", "no_new_privs", *(name for name, there in found.items() if there))

    @property
    def missing(self) -> list[str]:
        """Layers that are required by default and missing, each with its fix."""
        return self._lacking(REQUIRED)

    def check(self, required: Sequence[str]) -> None:
        """Raise an error if a required layer is missing or unknown."""
        if set(required) - FIXES.keys():
            raise OptionError("require", list(required), f"must be names of layers: {', '.join(FIXES)}.")
        if lacking := self._lacking(required):
            raise EngineError(
                f"The native sandbox lacks {' and '.join(lacking)}. Active layers: {', '.join(self.active)}. Use the "
                "sandbox monty for small programs, container or http for all programs, or set require=[] to run "
                "programs with the active layers only."
            )

    def _lacking(self, required: Sequence[str]) -> list[str]:
        here = {*self.active, *(["files"] if self.landlock or self.bubblewrap else [])}
        fixes = {**FIXES, "seccomp": self.seccomp_missing}
        return [f"{name} ({fixes[name]})" for name in required if name not in here]


@cache
def detect() -> Layers:
    """Detect the layers, once per process."""
    if sys.platform != "linux":
        return Layers(0, None, None, f"it requires Linux, but this system is {sys.platform!r}")
    seccomp, why = None, ""
    try:
        seccomp = compile_filter()
    except (ImportError, RuntimeError, OSError) as error:
        why = f"{error}; {FIXES['seccomp']}"
    return Layers(max(0, ctypes.CDLL(None).syscall(LANDLOCK_CREATE, None, 0, 1)), working_bubblewrap(), seccomp, why)


def compile_filter() -> str:
    """Compile the list of allowed system calls to a kernel filter in base 64."""
    import pyseccomp
    from pyseccomp import EQ, MASKED_EQ, Arg

    rules = pyseccomp.SyscallFilter(defaction=pyseccomp.ERRNO(1))
    for name in ALLOWED:
        rules.add_rule(pyseccomp.ALLOW, name)
    rules.add_rule(pyseccomp.ALLOW, "clone", Arg(0, MASKED_EQ, CLONE_THREAD, CLONE_THREAD))
    rules.add_rule(pyseccomp.ERRNO(38), "clone3")  # its flags cannot be checked; the C library then uses clone
    rules.add_rule(pyseccomp.ALLOW, "open", Arg(1, MASKED_EQ, OPEN_TO_WRITE, 0))
    rules.add_rule(pyseccomp.ALLOW, "openat", Arg(2, MASKED_EQ, OPEN_TO_WRITE, 0))
    rules.add_rule(pyseccomp.ALLOW, "prlimit64", Arg(0, EQ, 0), Arg(2, EQ, 0))
    # An event loop creates a pair of connected sockets. Datagram sockets could reach other programs.
    rules.add_rule(pyseccomp.ALLOW, "socketpair", Arg(0, EQ, AF_UNIX), Arg(1, MASKED_EQ, 0xF, SOCK_STREAM))
    for command in DESCRIPTOR_COMMANDS:
        rules.add_rule(pyseccomp.ALLOW, "fcntl", Arg(1, EQ, command))
    rules.add_rule(pyseccomp.ALLOW, "fcntl", Arg(1, EQ, F_SETFL), Arg(2, MASKED_EQ, O_ASYNC, 0))
    for request in TERMINAL_QUESTIONS:
        rules.add_rule(pyseccomp.ALLOW, "ioctl", Arg(1, EQ, request))
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return base64.b64encode(file.read()).decode()


def bubblewrap_command(bwrap: str) -> list[str]:
    """Return the command prefix that runs a command in namespaces with only the readable paths."""
    command = [bwrap, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() == 0:  # for the server, which changes the user and ends programs; programs lose them
        command += [word for cap in ("SETUID", "SETGID", "KILL") for word in ("--cap-add", f"CAP_{cap}")]
    else:
        command += ["--unshare-user"]
    for folder in ("/usr", "/usr/share", "/etc"):  # folders that bwrap creates itself are not readable for other users
        command += ["--dir", folder]
    for path in readable_paths():
        command += ["--ro-bind", path, path]
    command += ["--ro-bind", library(), INSIDE_BUBBLEWRAP]
    return [*command, "--remount-ro", "/", "--die-with-parent", "--new-session", "--chdir", "/", "--"]


def working_bubblewrap() -> str | None:
    """Return the path of ``bwrap`` if it is installed and may create namespaces, else ``None``."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return None
    done = subprocess.run([*bubblewrap_command(bwrap), interpreter(), "-S", "-c", ""], capture_output=True, env={})
    return bwrap if done.returncode == 0 else None
