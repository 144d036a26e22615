"""Programs that try to escape from a sandbox or to harm its user. Each prints ESCAPED if it succeeds.

The test fills in ``{...}``: ``secret`` (a file that all users can read), ``folder`` (all users can write to it), ``tcp``
and ``udp`` (listening ports on loopback), ``unix`` and ``abstract`` (listening sockets), ``parent`` (id of the process
that runs the tests). The root folder of a sandbox may be another one, without ``proc``.
"""

# ruff: noqa: E501  (programs are easier to read on one line)

from __future__ import annotations

from dataclasses import dataclass

C = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"


@dataclass(frozen=True)
class Hostile:
    source: str
    statuses: tuple[str, ...] = ("ok", "error")
    """Allowed statuses in the native sandbox."""
    works_unsealed: bool = False
    """Whether it succeeds in a plain interpreter. Only set for attacks that are harmless there."""


def tries(attack: str, **options) -> Hostile:
    """Return a program that escapes if its statements do not raise."""
    lines = "\n".join(f"    {line}" for line in attack.strip().split("\n"))
    return Hostile(
        f"try:\n{lines}\n    print('ESCAPED')\nexcept BaseException as error:\n    print(repr(error))", **options
    )


def loops(source: str, statuses=("timeout",)) -> Hostile:
    return Hostile(source, statuses)


PROGRAMS = {
    # files: reading
    "read_secret": tries("print(open('{secret}').read())", works_unsealed=True),
    "read_passwd": tries("open('/etc/passwd').read()", works_unsealed=True),
    "read_shadow": tries("open('/etc/shadow').read()"),
    "read_by_descriptor": tries("import os\nos.read(os.open('{secret}', os.O_RDONLY), 10)", works_unsealed=True),
    "read_home": tries("import os, pathlib\nprint(os.listdir(pathlib.Path('{secret}').parent))", works_unsealed=True),
    "list_root": tries("import os\nassert 'proc' in os.listdir('/')", works_unsealed=True),
    "list_tmp": tries("import os\nos.listdir('/tmp')", works_unsealed=True),
    "walk_up": tries("import os\nassert 'proc' in os.listdir('../' * 20)", works_unsealed=True),
    "import_from_folder": tries("import sys\nsys.path.insert(0, '{folder}')\nimport planted", works_unsealed=True),
    "import_our_package": tries("import reason_envs"),
    "import_packages": tries("import numpy"),
    "run_planted_file": tries("import runpy\nrunpy.run_path('{folder}/planted.py')", works_unsealed=True),
    "map_secret": tries(
        "import mmap, os\nfd = os.open('{secret}', os.O_RDONLY)\nmmap.mmap(fd, 0, prot=mmap.PROT_READ)", works_unsealed=True
    ),
    "read_via_libc": Hostile(C + "if libc.open(b'{secret}', 0) >= 0: print('ESCAPED')", works_unsealed=True),
    "open_by_handle": Hostile(C + "if libc.syscall(304, -100, None, 0) >= 0: print('ESCAPED')"),
    "openat2": Hostile(
        C + "how = (ctypes.c_uint64 * 3)()\nif libc.syscall(437, -100, b'{secret}', how, 24) >= 0: print('ESCAPED')",
        works_unsealed=True,
    ),
    "read_parent_environment": tries("print(open('/proc/{parent}/environ').read())", works_unsealed=True),
    "read_parent_memory": tries("open('/proc/{parent}/mem', 'rb').read(1)"),
    "read_parent_commands": tries("open('/proc/{parent}/cmdline').read()", works_unsealed=True),
    "read_own_proc": tries("open('/proc/self/maps').read()", works_unsealed=True),
    "list_processes": tries("import os\nos.listdir('/proc')", works_unsealed=True),
    "parent_descriptors": tries("import os\nos.listdir('/proc/{parent}/fd')", works_unsealed=True),
    # files: writing
    "write_file": tries("open('{folder}/written', 'w').write('x')", works_unsealed=True),
    "append_to_secret": tries("open('{secret}', 'a').write('')", works_unsealed=True),
    "write_shared_memory": tries("open('/dev/shm/written', 'w').write('x')"),
    "write_tmp": tries("import tempfile\ntempfile.NamedTemporaryFile().write(b'x')", works_unsealed=True),
    "make_folder": tries("import os\nos.mkdir('{folder}/made')", works_unsealed=True),
    "remove_file": tries("import os\nos.remove('{folder}/victim')"),
    "rename_file": tries("import os\nos.rename('{folder}/victim', '{folder}/renamed')"),
    "truncate_file": tries("import os\nos.truncate('{folder}/victim', 0)"),
    "change_mode": tries("import os\nos.chmod('{folder}/victim', 0)"),
    "change_times": tries("import os\nos.utime('{folder}/victim', (0, 0))"),
    "symlink": tries("import os\nos.symlink('{secret}', '{folder}/link')", works_unsealed=True),
    "hard_link": tries("import os\nos.link('{folder}/victim', '{folder}/hard')"),
    "fifo": tries("import os\nos.mkfifo('{folder}/fifo')", works_unsealed=True),
    "big_file": tries("with open('{folder}/big', 'wb') as file:\n    file.truncate(2**40)"),
    "memory_file": tries("import os\nfd = os.memfd_create('x')\nos.write(fd, b'x' * 2**20)", works_unsealed=True),
    "grow_stdin": tries("import os\nos.ftruncate(0, 2**34)"),
    "extended_attribute": tries("import os\nos.setxattr('{folder}/victim', 'user.x', b'x')"),
    # network
    "tcp": tries("import socket\nsocket.create_connection(('127.0.0.1', {tcp}), 1)", works_unsealed=True),
    "tcp_listen": tries("import socket\nsocket.socket().bind(('127.0.0.1', 0))", works_unsealed=True),
    "udp": tries(
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {udp}))",
        works_unsealed=True,
    ),
    "unix_socket": tries("import socket\nsocket.socket(socket.AF_UNIX).connect('{unix}')", works_unsealed=True),
    "abstract_socket": tries(
        "import socket\nsocket.socket(socket.AF_UNIX).connect(chr(0) + '{abstract}')", works_unsealed=True
    ),
    "datagram_pair": tries("import socket\nsocket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)", works_unsealed=True),
    "netlink": tries("import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)", works_unsealed=True),
    "raw_socket": tries("import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)"),
    "http": tries("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:{tcp}/', timeout=1)"),
    "socket_by_number": Hostile(C + "if libc.syscall(41, 2, 1, 0) >= 0: print('ESCAPED')", works_unsealed=True),
    "io_uring": Hostile(C + "p = (ctypes.c_char * 120)()\nif libc.syscall(425, 4, p) >= 0: print('ESCAPED')"),
    # processes and signals
    "fork": tries("import os\nif os.fork() == 0: os._exit(0)", works_unsealed=True),
    "fork_bomb": loops("import os\nwhile True:\n    try:\n        os.fork()\n        print('ESCAPED')\n    except OSError: pass"),
    "vfork": Hostile(C + "if libc.syscall(58) >= 0: print('ESCAPED')"),
    "clone": Hostile(C + "pid = libc.syscall(56, 17, None, None, None, None)\nif pid >= 0: print('ESCAPED')"),
    "clone_namespaces": Hostile(C + "if libc.syscall(56, 0x10000000 | 17, None, None, None, None) >= 0: print('ESCAPED')"),
    "subprocess": tries("import subprocess\nsubprocess.run(['/bin/sh', '-c', 'true'], check=True)", works_unsealed=True),
    "system": Hostile("import os\nif os.system('true') == 0: print('ESCAPED')", works_unsealed=True),
    "execute": tries("import os\nos.execv('/bin/echo', ['echo', 'ESCAPED'])", works_unsealed=True),
    "spawn": tries("import os\nos.posix_spawn('/bin/true', ['true'], {{}})", works_unsealed=True),
    "multiprocessing": tries(
        "import multiprocessing\nmultiprocessing.get_context('fork').Process(target=print).start()", works_unsealed=True
    ),
    "kill_tests": tries("import os\nos.kill({parent}, 0)"),
    "kill_server": tries("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)"),
    "stop_server": tries("import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)"),
    "kill_everything": tries("import os, signal\nos.kill(-1, signal.SIGKILL)"),
    "kill_group": tries("import os, signal\nos.killpg(0, signal.SIGTERM)"),
    "queue_signal": Hostile(C + "if libc.sigqueue(os.getppid(), 9, None) == 0: print('ESCAPED')"),
    "pidfd_signal": tries("import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), signal.SIGKILL)"),
    "ptrace_server": Hostile(C + "if libc.ptrace(16, os.getppid(), None, None) == 0: print('ESCAPED')"),
    "signal_by_pipe": Hostile(
        "import fcntl, os, signal\nout, into = os.pipe()\nfor command, value in ((8, {parent}), (10, signal.SIGCONT), (4, 0o22000)):\n"
        "    try: fcntl.fcntl(out, command, value)\n    except PermissionError: continue\n    print('ESCAPED')\nos.write(into, b'x')",
        works_unsealed=True,
    ),
    "descriptor_commands": Hostile(
        "import fcntl, os\nfd = os.pipe()[0]\nfor command in [*range(5, 64), *range(1024, 1060), 2**31, 2**32 + 8]:\n"
        "    if command == 1030: continue\n    try: fcntl.fcntl(fd, command, 0)\n    except PermissionError: continue\n"
        "    except (OSError, OverflowError) as error:\n        if isinstance(error, OverflowError): continue\n"
        "    print('ESCAPED', command)",
        works_unsealed=True,
    ),
    "descriptor_commands_by_number": Hostile(
        C + "fd = os.pipe()[0]\nfor command in (8, 10, 15, 8 + 2**32, 10 + 2**32):\n"
        "    if libc.syscall(72, fd, ctypes.c_ulong(command), ctypes.c_ulong({parent})) >= 0 or ctypes.get_errno() != 1: print('ESCAPED', command)",
    ),
    "read_server_memory": Hostile(
        C + "class V(ctypes.Structure):\n    _fields_ = [('b', ctypes.c_void_p), ('n', ctypes.c_size_t)]\n"
        "b = ctypes.create_string_buffer(8)\nv = V(ctypes.addressof(b), 8)\nr = V(id(b), 8)\n"
        "if libc.process_vm_readv(os.getppid(), ctypes.byref(v), 1, ctypes.byref(r), 1, 0) > 0: print('ESCAPED')"
    ),
    "priority": tries("import os\nos.setpriority(os.PRIO_PROCESS, os.getppid(), 19)"),
    "pin_server": tries("import os\nos.sched_setaffinity(os.getppid(), {{0}})"),
    "limit_server": tries("import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (3, 3))"),
    "wait_for_siblings": tries("import os\nos.waitpid(-1, 0)"),
    # rights and the kernel
    "become_root": tries("import os\nos.setuid(0)\nassert os.geteuid() == 0"),
    "is_root": Hostile("import os\nif 0 in (os.getuid(), os.geteuid()): print('ESCAPED')"),
    "set_groups": tries("import os\nos.setgroups([0])"),
    "chroot": tries("import os\nos.chroot('{folder}')"),
    "mount": Hostile(C + "if libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0: print('ESCAPED')"),
    "unshare": Hostile(C + "if libc.unshare(0x10000000) == 0: print('ESCAPED')"),
    "raise_limits": tries("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))"),
    "raise_file_size": tries("import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))"),
    "load_other_filter": Hostile(C + "if libc.prctl(22, 2, None) == 0: print('ESCAPED')"),
    "survive_parent": Hostile(C + "if libc.prctl(1, 0, 0, 0, 0) == 0: print('ESCAPED')"),
    "bpf": Hostile(C + "if libc.syscall(321, 0, None, 0) >= 0: print('ESCAPED')"),
    "keyring": Hostile(C + "if libc.syscall(248, b'user', b'x', b'y', 1, -4) >= 0: print('ESCAPED')"),
    "userfaultfd": Hostile(C + "if libc.syscall(323, 1) >= 0: print('ESCAPED')"),
    "perf_events": Hostile(C + "if libc.syscall(298, None, 0, -1, -1, 0) >= 0: print('ESCAPED')"),
    "inotify": Hostile(C + "if libc.inotify_init() >= 0: print('ESCAPED')", works_unsealed=True),
    "shared_memory_segment": Hostile(C + "if libc.shmget(0, 2**20, 0o1600) >= 0: print('ESCAPED')", works_unsealed=True),
    "message_queue": Hostile(C + "if libc.msgget(0, 0o1600) >= 0: print('ESCAPED')"),
    "semaphores": Hostile(C + "if libc.semget(0, 1, 0o1600) >= 0: print('ESCAPED')"),
    "set_clock": tries("import time\ntime.clock_settime(time.CLOCK_REALTIME, 0)"),
    "host_name": tries("import socket\nsocket.sethostname('x')"),
    "terminal": tries("import fcntl\nfcntl.ioctl(0, 0x5412, b'x')"),
    "old_syscalls": Hostile(  # 32-bit system calls have other numbers: 11 is execve
        "import ctypes, mmap\ncode = b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3'\n"
        "memory = mmap.mmap(-1, 4096, prot=7)\nmemory.write(code)\n"
        "call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))\n"
        "if call() > 0: print('ESCAPED')",
        ("ok", "error", "killed"),
    ),
    # the environment
    "environment": Hostile("import os\nprint(dict(os.environ))\nif os.environ: print('ESCAPED')", works_unsealed=True),
    "environment_in_memory": Hostile(
        C + "libc.getenv.restype = ctypes.c_char_p\nif libc.getenv(b'REASON_ENVS_TEST_SECRET'): print('ESCAPED')",
        works_unsealed=True,
    ),
    "environment_on_stack": Hostile(
        C + "start = ctypes.c_void_p.in_dll(libc, '__environ').value\n"
        "text = ctypes.string_at(start & ~0xfff, 4096) if start else b''\n"
        "if b'REASON_ENVS_TEST_SECRET' in text: print('ESCAPED')"
    ),
    "search_objects": Hostile(
        "import gc, sys\nfor thing in gc.get_objects():\n    if isinstance(thing, dict) and "
        "any('TEST_SE' + 'CRET' in str(key) for key in list(thing)): print('ESCAPED')"
    ),
    "inherited_descriptors": Hostile(
        "import os\nfor fd in range(4, 1024):\n    try:\n        os.fstat(fd)\n        print('ESCAPED', fd)\n"
        "    except OSError: pass"
    ),
    # resources
    "endless_loop": loops("while True: pass"),
    "endless_catching": loops("while True:\n    try:\n        while True: pass\n    except BaseException: pass"),
    "ignore_signals": loops(
        "import signal\nfor number in range(1, 65):\n    try: signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: pass"
    ),
    "sleep": loops("import time\ntime.sleep(1000)"),
    "sleep_in_finally": loops("import time\ntry:\n    1 / 0\nfinally:\n    time.sleep(1000)"),
    "wait_for_input": loops("import select\nselect.select([], [], [])"),
    "thread_keeps_running": Hostile("import threading\n\ndef spin():\n    while True: pass\nthreading.Thread(target=spin).start()"),
    "deadlock": loops("import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()"),
    "thread_bomb": loops(
        "import threading, time\nthreading.stack_size(32768)\ncount = 0\nwhile True:\n    try:\n"
        "        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n        count += 1\n"
        "        if count > 20: print('ESCAPED')\n    except RuntimeError: pass",
        ("timeout", "memory"),
    ),
    "long_computation": loops("x = 7 ** (7 ** 9)"),
    "regular_expression": loops("import re\nre.match('(a+)+$', 'a' * 40 + 'b')"),
    "memory_list": loops("x = [0] * 10**10", ("memory",)),
    "memory_growth": loops("x = []\nwhile True: x.append(bytes(2**20))", ("memory",)),
    "memory_text": loops("x = 'a'\nwhile True: x += x", ("memory",)),
    "memory_catching": loops(
        "x = []\nwhile True:\n    try: x.append(bytes(2**22))\n    except MemoryError: pass", ("timeout", "memory", "killed")
    ),
    "memory_shared": loops(
        "import mmap\nx = []\nwhile True:\n    m = mmap.mmap(-1, 2**24)\n    m.write(b'x' * 2**24)\n    x.append(m)",
        ("error", "memory", "timeout"),
    ),
    "memory_pipes": loops("import os\nwhile True:\n    os.pipe()", ("error",)),
    "print_gigabytes": loops("while True: print('x' * 2**20)", ("output",)),
    "print_errors": loops("import sys\nwhile True: sys.stderr.write('x' * 2**20)", ("output",)),
    "deep_recursion": loops("def f(): return f()\nf()", ("error",)),
    "deeper_recursion": loops(
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return [f(x)]\nf(1)", ("error", "killed", "memory", "timeout")
    ),
    "deep_source": loops("(" * 10000 + ")" * 10000, ("error", "memory")),
    "large_constant": loops("x = " + "-" * 5000 + "1", ("ok", "error", "memory", "killed")),
    "crash": loops("import ctypes\nctypes.string_at(0)", ("killed",)),
    "abort": loops("import os\nos.abort()", ("killed",)),
    # the process shared with the runner
    "leave_at_once": loops("import os\nos._exit(0)", ("killed",)),
    "close_descriptors": loops("import os\nos.closerange(0, 100)", ("killed", "error")),
    "close_and_loop": loops("import os\nos.closerange(0, 100)\nwhile True: pass"),
    "at_exit": Hostile("import atexit\natexit.register(print, 'ESCAPED')"),
    "write_results": Hostile("import os\nos.write(3, b'[\"ok\"]\\n')\nos._exit(0)"),
    "write_garbage": Hostile("import os\nos.write(3, b'\\xff{{[nonsense')", ("error",)),
    "write_deep_results": Hostile("import os\nos.write(3, b'[' * 60000 + b'\\n')", ("error",)),
    "claim_unsealed": Hostile("import os\nos.write(3, b'[\"unsealed\", \"x\"]\\n')\nos._exit(1)", ("error",)),
    "break_modules": Hostile("import sys\nfor name in list(sys.modules): sys.modules[name] = None", ("ok", "error", "killed")),
    "break_builtins": Hostile("import builtins\nfor n in list(vars(builtins)): setattr(builtins, n, None)", ("error", "killed")),
    "break_json": Hostile("import json\njson.dumps = lambda *a, **k: 1 / 0", ("error", "killed")),
    "import_hook": Hostile("import sys\nsys.meta_path.insert(0, None)\nsys.path_hooks.clear()\nimport wave", ("error",)),
    "trace": Hostile("import sys\nsys.settrace(lambda *a: 1 / 0)\nlen([])", ("ok", "error", "killed")),
    "frames": Hostile(
        "import sys\nframe = sys._getframe()\nwhile frame.f_back: frame = frame.f_back\n"
        "print({{k: v for k, v in frame.f_globals.items() if 'expected' in str(k)}})"
    ),
    "leave_by_exception": Hostile("class E(BaseException):\n    def __str__(self): raise self\nraise E", ("error",)),
    "exit_as_success": Hostile("raise SystemExit(0)"),
    "swallow_streams": Hostile("import sys\nsys.stdout = sys.stderr = sys.stdin = None", ("ok", "error", "killed")),
}  # fmt: skip
