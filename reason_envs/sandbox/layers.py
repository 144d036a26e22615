"""What seals a native program on this machine: which layers there are, and which of the needed ones are not.

=================  =====================================================================================
``rlimits``        memory, processor time, threads, no files of its own, no core dumps
``no_new_privs``   no program it starts could gain rights
``uid``            not root, whoever started us
``landlock``       files: reading under the Python library and the system's shared libraries only
``bubblewrap``     namespaces: nothing else of the file system exists, nor the network, nor other processes
``seccomp``        a list of allowed system calls: no sockets, processes, signals, tracing, writable files
=================  =====================================================================================

Needed are ``seccomp``, ``uid`` and one of ``landlock`` and ``bubblewrap``; the first two are always there on Linux.
"""

from __future__ import annotations

import base64
import ctypes
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache

from reason_envs.sandbox.library import interpreter, library, readable_paths

LANDLOCK_CREATE = 444
FIRST_UID, UIDS = 65520, 14
"""User ids that no system gives to anybody (65520 to 65533); each worker of a root process takes one."""

INSIDE_BUBBLEWRAP = "/library"
"""Where programs find the standard library there, open to every user."""

ALLOWED = """
    access arch_prctl brk capget clock_getres clock_gettime clock_nanosleep close close_range dup dup2 dup3 epoll_create
    epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 exit exit_group faccessat faccessat2 fcntl fstat fstatfs
    futex getcwd getdents64 getegid geteuid getgid getgroups getpgrp getpid getppid getpriority getrandom getresgid
    getresuid getrlimit getrusage getsid gettid gettimeofday getuid lseek lstat madvise mmap mprotect mremap munmap
    nanosleep newfstatat pipe pipe2 poll ppoll pread64 preadv pselect6 read readlink readlinkat readv restart_syscall
    rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield select
    set_robust_list set_tid_address sigaltstack stat statfs statx sysinfo time times umask uname wait4 waitid write
    writev
"""
"""System calls that a program may make with any arguments; the others fail with "operation not permitted"."""
TERMINAL_QUESTIONS = (0x5401, 0x5413, 0x5421, 0x5450, 0x5451)
"""``ioctl`` requests: is it a terminal, its size, (non-)blocking, close on exec."""
CLONE_THREAD, OPEN_TO_WRITE, SOCK_STREAM, AF_UNIX = 0x10000, 0o3 | 0o100 | 0o1000 | 0o20000000, 1, 1


@dataclass(frozen=True)
class Layers:
    """The layers of this machine."""

    landlock: int
    """Version of Landlock, 0 without."""
    bubblewrap: str | None
    """Path of a ``bwrap`` that works here."""
    seccomp: str | None
    """The compiled filter in base 64."""
    seccomp_missing: str
    """Why there is no filter."""

    @property
    def active(self) -> tuple[str, ...]:
        """The names of the layers that seal a program here."""
        found = {"uid": True, "landlock": self.landlock, "bubblewrap": self.bubblewrap, "seccomp": self.seccomp}
        return ("rlimits", "no_new_privs", *(name for name, there in found.items() if there))

    @property
    def missing(self) -> list[str]:
        """What is needed and not here, each with how to get it."""
        found = []
        if not self.seccomp:
            found.append(f"seccomp ({self.seccomp_missing})")
        if not self.landlock and not self.bubblewrap:
            found.append(
                "landlock or bubblewrap (use a kernel of 5.13 or later with Landlock enabled, or install the package "
                "bubblewrap of your distribution where user namespaces are allowed)"
            )
        return found


@cache
def detect() -> Layers:
    """Look for the layers once a process."""
    seccomp, why = None, ""
    try:
        seccomp = compile_filter()
    except (ImportError, RuntimeError, OSError) as error:
        why = f"{error}; install the package pyseccomp and the system library libseccomp 2"
    version = ctypes.CDLL(None).syscall(LANDLOCK_CREATE, None, 0, 1)
    return Layers(max(0, version), working_bubblewrap(), seccomp, why)


def compile_filter() -> str:
    """Compile the list of allowed system calls for the kernel, in base 64."""
    import pyseccomp
    from pyseccomp import EQ, MASKED_EQ, Arg

    rules = pyseccomp.SyscallFilter(defaction=pyseccomp.ERRNO(1))
    for name in ALLOWED.split():
        rules.add_rule(pyseccomp.ALLOW, name)
    rules.add_rule(pyseccomp.ALLOW, "clone", Arg(0, MASKED_EQ, CLONE_THREAD, CLONE_THREAD))
    rules.add_rule(pyseccomp.ERRNO(38), "clone3")  # its flags are in memory: the C library then asks for clone
    rules.add_rule(pyseccomp.ALLOW, "open", Arg(1, MASKED_EQ, OPEN_TO_WRITE, 0))
    rules.add_rule(pyseccomp.ALLOW, "openat", Arg(2, MASKED_EQ, OPEN_TO_WRITE, 0))
    rules.add_rule(pyseccomp.ALLOW, "prlimit64", Arg(0, EQ, 0), Arg(2, EQ, 0))
    # An event loop makes a pair of connected sockets for itself; datagram ones could reach others.
    rules.add_rule(pyseccomp.ALLOW, "socketpair", Arg(0, EQ, AF_UNIX), Arg(1, MASKED_EQ, 0xF, SOCK_STREAM))
    for request in TERMINAL_QUESTIONS:
        rules.add_rule(pyseccomp.ALLOW, "ioctl", Arg(1, EQ, request))
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return base64.b64encode(file.read()).decode()


def bubblewrap_command(bwrap: str) -> list[str]:
    """Return the command that puts what follows into namespaces where only the readable paths exist."""
    command = [bwrap, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() == 0:  # the server changes to another user and ends its programs; they keep nothing of this
        command += [word for cap in ("SETUID", "SETGID", "KILL") for word in ("--cap-add", f"CAP_{cap}")]
    else:
        command += ["--unshare-user"]
    for folder in ("/usr", "/usr/share", "/etc"):  # those it makes by itself are closed to other users
        command += ["--dir", folder]
    for path in readable_paths():
        command += ["--ro-bind", path, path]
    command += ["--ro-bind", library(), INSIDE_BUBBLEWRAP]
    return [*command, "--remount-ro", "/", "--die-with-parent", "--new-session", "--chdir", "/", "--"]


def working_bubblewrap() -> str | None:
    """Return the path of ``bwrap`` if it is installed and allowed to make namespaces."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return None
    done = subprocess.run([*bubblewrap_command(bwrap), interpreter(), "-S", "-c", ""], capture_output=True, env={})
    return bwrap if done.returncode == 0 else None
