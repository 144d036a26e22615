"""The fork server of the native sandbox: an isolated process per program, whose output it reports.

The texts of ``runner.py`` and of this file are run by an interpreter without environment variables and installed
packages. Requests and replies are lines of JSON on a socket. The output of programs is not parsed. A program inherits
the memory of the process that forks it, so a second process, forked before the first request, forks the programs: it
receives open files only, and each program reads its own request from one of them.
"""

import ctypes
import gc
import json
import os
import resource
import selectors
import signal
import socket
import struct
import sys
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, BinaryIO

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
READ_FILE_AND_FOLDER = 1 << 2 | 1 << 3
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Number of file access rights per Landlock version. All are restricted, so only reading is allowed."""
CLONE_NEWUSER, CAPABILITY_VERSION = 0x10000000, 0x20080522
RESULT_FD = 3
_libc = ctypes.CDLL(None, use_errno=True)


def check(returned: int, name: str) -> int:
    """Raise ``OSError`` if a system call failed, so that no program runs without a layer."""
    if returned < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return returned


def restrict_files(version: int, readable: list[str]) -> None:
    """Restrict this process and its children to reading files under the given paths (Landlock)."""
    handled = (1 << FILE_RIGHTS.get(version, 16)) - 1
    tcp = 0b11 if version >= 4 else 0
    scopes = 0b11 if version >= 6 else 0
    attributes = struct.pack("QQQ", handled, tcp, scopes)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = check(_libc.syscall(LANDLOCK_CREATE, attributes, len(attributes), 0), "landlock_create_ruleset")
    for path in readable:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rights = READ_FILE_AND_FOLDER if os.path.isdir(path) else 1 << 2
        rule = struct.pack("=Qi", rights, folder)
        check(_libc.syscall(LANDLOCK_ADD, rules, 1, rule, 0), f"landlock_add_rule {path}")
        os.close(folder)
    check(_libc.syscall(LANDLOCK_RESTRICT, rules, 0), "landlock_restrict_self")
    os.close(rules)


def restrict_system_calls(code: bytes) -> None:
    """Load a compiled seccomp filter into this process."""
    instructions = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(instructions))
    check(_libc.prctl(PR_SET_SECCOMP, 2, program), "seccomp")


def change_user(uid: int | None) -> bool:
    """Change the user of this process, or else its user namespace, and return whether its threads count alone.

    Namespaces may be forbidden, and before Linux 5.14 they share the count.
    """
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        return True
    if _libc.unshare(CLONE_NEWUSER):
        return False
    no_capabilities = struct.pack("Ii", CAPABILITY_VERSION, 0), bytes(24)
    check(_libc.capset(*no_capabilities), "capset")
    return tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (5, 14)


def seal(settings: dict[str, Any], limits: dict[str, Any]) -> None:
    """Irrevocably drop all rights of this process that a program does not need."""
    sizes = {
        resource.RLIMIT_AS: limits["memory_mb"] << 20,
        resource.RLIMIT_CPU: int(limits["seconds"]) + 2,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NPROC: limits["processes"],
    }
    if not change_user(settings["uid"]) and settings["seccomp"]:  # the threads of the trainer count as well
        sizes[resource.RLIMIT_NPROC] = resource.getrlimit(resource.RLIMIT_NPROC)[0] // 2
    for name, size in sizes.items():
        resource.setrlimit(name, (size, size))
    check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "pdeathsig")
    if settings["seccomp"]:
        restrict_system_calls(b64decode(settings["seccomp"]))


def memory_file(data: bytes) -> int:
    """Return a file in memory with these contents."""
    file = os.memfd_create("reason_envs")
    with open(file, "wb", closefd=False) as writer:
        writer.write(data)
    os.lseek(file, 0, os.SEEK_SET)
    return file


def become_program(run: Callable[..., None], settings: dict[str, Any], fds: list[int]) -> None:
    """Run the program in this forked process. Never returns.

    ``fds`` are the files of the request, standard output, standard error, and the results.
    """
    try:
        os.setsid()
        with open(fds[0], "rb") as file:
            request = json.loads(file.read())
        stdin = memory_file(request["stdin"].encode("utf-8", "surrogatepass"))
        high = [os.dup(fd) for fd in (stdin, *fds[1:])]
        for target, fd in enumerate(high):
            os.dup2(fd, target)
        os.closerange(RESULT_FD + 1, 256)
        seal(settings, request["limits"])
        sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.default_int_handler)
    except BaseException as error:  # noqa: BLE001  (a layer failed: the program must not run)
        os.write(RESULT_FD, json.dumps(["unsealed", repr(error)]).encode() + b"\n")
        os._exit(1)

    def emit(item: Any) -> None:
        data = memoryview(json.dumps(item).encode() + b"\n")
        while data:
            data = data[os.write(RESULT_FD, data) :]

    try:
        run(request["source"], request["expressions"], emit)
    finally:
        os._exit(0)


def fork_programs(run: Callable[..., None], settings: dict[str, Any], server: socket.socket) -> None:
    """Fork a process per message of the server, and report its end. No request passes through. Never returns."""
    check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "pdeathsig")
    while fds := socket.recv_fds(server, 1, RESULT_FD + 1)[1]:
        pid = os.fork()
        if pid == 0:
            become_program(run, settings, fds)
        process = os.pidfd_open(pid)
        socket.send_fds(server, [b"."], [process])
        for fd in (*fds, process):
            os.close(fd)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with suppress(ProcessLookupError):  # kill its group, which it may not have created yet
            os.killpg(pid, signal.SIGKILL)
        server.send(struct.pack("!i", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
    os._exit(0)


def supervise(process: int, pipes: dict[int, str], limits: dict[str, Any]) -> dict[str, Any]:
    """Collect the output of a program until it ends or exceeds a limit, then end its process."""
    start = monotonic()
    deadline = start + limits["seconds"]
    written = {name: bytearray() for name in pipes.values()}
    ended = "running"
    selector = selectors.DefaultSelector()
    for fd in (process, *pipes):
        os.set_blocking(fd, False)
        selector.register(fd, selectors.EVENT_READ)
    while ended == "running":
        ready = [key.fd for key, _ in selector.select(max(0.0, deadline - monotonic()))]
        if process in ready:  # the pipes may contain the last output
            ended, ready = "ended", list(pipes)
        elif not ready:
            ended = "timeout"
        for fd in ready:
            if drain(fd, written[pipes[fd]], limits["output_bytes"]) and ended == "running":
                selector.unregister(fd)
        if any(len(data) > limits["output_bytes"] for data in written.values()):
            ended = "output"
    selector.close()
    with suppress(ProcessLookupError):  # it has ended
        signal.pidfd_send_signal(process, signal.SIGKILL)
    texts = {name: bytes(data[: limits["output_bytes"]]).decode("utf-8", "replace") for name, data in written.items()}
    return {"ended": ended, "seconds": monotonic() - start, **texts}


def drain(fd: int, into: bytearray, enough: int) -> bool:
    """Read the available data of a pipe, slightly more than ``enough`` bytes at most; return whether it was closed."""
    while len(into) <= enough:
        try:
            piece = os.read(fd, 65536)
        except BlockingIOError:
            return False
        if not piece:
            return True
        into += piece
    return False


def handle(programs: socket.socket, data: bytes) -> dict[str, Any]:
    """Run the program of a request in a new process, which the process at the other end of ``programs`` forks."""
    ends = [os.pipe() for _ in range(RESULT_FD)]
    theirs = [memory_file(data), *(write for _, write in ends)]
    socket.send_fds(programs, [b"."], theirs)
    (process,) = socket.recv_fds(programs, 1, 1)[1]
    for fd in theirs:
        os.close(fd)
    pipes = {read: name for (read, _), name in zip(ends, ("stdout", "stderr", "results"), strict=True)}
    reply = supervise(process, pipes, json.loads(data)["limits"])
    for fd in (process, *pipes):
        os.close(fd)
    return {**reply, "exit": struct.unpack("!i", programs.recv(4))[0]}


def receive(requests: BinaryIO) -> bytes:
    """Return the next line. The server ends when the socket is closed."""
    line = requests.readline()
    if not line.endswith(b"\n"):
        os._exit(0)
    return line


def find_library(ours: str, here: str) -> None:
    """Redirect imports, including those of loaded packages, to the folder of the library that programs can read."""
    sys.path[:] = [here, os.path.join(here, "lib-dynload")]
    for module in list(sys.modules.values()):
        if hasattr(module, "__path__"):
            module.__path__ = [path.replace(ours, here, 1) for path in module.__path__]
    sys.path_importer_cache.clear()


def serve(run: Callable[..., None]) -> None:
    """Receive the settings, then answer requests until the socket on standard input is closed."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(0), "w")
    settings = json.loads(receive(requests))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    os.environ.clear()
    os.chdir("/")
    find_library(settings["library"], settings["library_here"])
    for name in settings["preload"]:
        __import__(name)
    check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    if settings["landlock"]:
        restrict_files(settings["landlock"], settings["readable"])
    gc.collect()
    gc.freeze()
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        os.dup2(theirs.fileno(), 0)
        for end in (requests, replies, ours):
            end.close()
        fork_programs(run, settings, theirs)
    theirs.close()
    signal.signal(signal.SIGCHLD, lambda *_: os._exit(1))  # without that process the server is of no use
    print(json.dumps("ready"), file=replies, flush=True)
    while True:
        print(json.dumps(handle(ours, receive(requests))), file=replies, flush=True)
