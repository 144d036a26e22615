"""Hostile programs by class. As in ``hostile_programs``, each one prints ESCAPED if it succeeds.

``<secret>`` and other names in angle brackets stand for the places that the test fills in. Values are the program and
the statuses that the native sandbox may report.
"""

# ruff: noqa: E501  (programs are easier to read on one line)

from __future__ import annotations

import re

from hostile_programs import Hostile

ENDED = ("error", "memory", "killed", "timeout")
ANY = ("ok", *ENDED, "output")
LIBC = """import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    if libc.syscall(*arguments) >= 0: print('ESCAPED', arguments[0])
"""


def denied(*attacks: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return programs whose statement must raise. The imports are those that its text names."""
    found = {}
    for attack in attacks:
        names = [name for name in MODULES if re.search(rf"\b{name}\.", attack)]
        body = "\n".join(f"    {line}" for line in attack.split("\n"))
        imports = f"import {', '.join(names)}\n" if names else ""
        found[attack] = (
            f"{imports}try:\n{body}\n    print('ESCAPED')\nexcept BaseException: pass",
            ("ok", "timeout", "memory"),
        )
    return found


def calls(*attacks: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return programs that make a system call by its number, which must fail."""
    return {attack: (f"{LIBC}call({attack})", ("ok",)) for attack in attacks}


def ends(statuses: tuple[str, ...], *sources: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return programs that must end with one of the statuses."""
    return {source: (source, statuses) for source in sources}


MODULES = [
    "asyncio",
    "code",
    "codecs",
    "ctypes",
    "dbm",
    "fileinput",
    "glob",
    "gzip",
    "io",
    "linecache",
    "logging",
    "mmap",
    "multiprocessing",
    "os",
    "pathlib",
    "pickle",
    "pty",
    "resource",
    "runpy",
    "select",
    "shelve",
    "shutil",
    "signal",
    "smtplib",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "sys",
    "syslog",
    "tarfile",
    "tempfile",
    "threading",
    "time",
    "tokenize",
    "urllib",
    "webbrowser",
    "xmlrpc",
    "zipfile",
    "zipimport",
    "importlib",
    "imaplib",
    "ftplib",
    "http",
    "socketserver",
    "concurrent",
    "fcntl",
    "termios",
    "tty",
    "gc",
    "venv",
]

CLASSES = {
    "files": denied(
        "os.open('<secret>', os.O_RDONLY | os.O_NOFOLLOW)",
        "os.open('<secret>', os.O_PATH) >= 0 and os.read(os.open('<secret>', os.O_PATH), 1)",
        "pathlib.Path('<secret>').read_bytes()",
        "io.FileIO('<secret>').read()",
        "codecs.open('<secret>').read()",
        "next(fileinput.input('<secret>'))",
        "assert linecache.getline('<secret>', 1)",
        "tokenize.open('<secret>').read()",
        "shutil.copyfileobj(open('<secret>'), sys.stdout)",
        "shutil.copy('<secret>', '<folder>/copy')",
        "os.sendfile(1, os.open('<secret>', 0), 0, 9)",
        "os.copy_file_range(os.open('<secret>', 0), 1, 9)",
        "open('/proc/self/root<secret>').read()",
        "open('/proc/self/cwd<secret>').read()",
        "open('/proc/thread-self/environ').read()",
        "open('/proc/1/environ').read()",
        "open('/proc/sys/kernel/hostname').read()",
        "open('/proc/net/tcp').read()",
        "open('/proc/kallsyms').read()",
        "open('/sys/kernel/security/lsm').read()",
        "open('/dev/kmsg').read(1)",
        "open('/dev/mem', 'rb').read(1)",
        "open('/dev/tty', 'w').write('x')",
        "open('/dev/ptmx', 'rb+')",
        "open('/etc/hostname').read()",
        "open('/etc/resolv.conf').read()",
        "open('/root/.bashrc').read()",
        "open('/var/log/dpkg.log').read()",
        "assert glob.glob('<folder>/*')",
        "assert [*os.walk('<folder>')]",
        "assert [*os.scandir('<folder>')]",
        "sqlite3.connect('<folder>/base').execute('create table t (a)')",
        "sqlite3.connect('file:<secret>?mode=ro', uri=True).execute('select 1 from sqlite_master')",
        "dbm.open('<folder>/base', 'c')",
        "shelve.open('<folder>/shelf')['a'] = 1",
        "zipfile.ZipFile('<folder>/a.zip', 'w').writestr('a', 'b')",
        "tarfile.open('<folder>/a.tar', 'w').add('<secret>')",
        "gzip.open('<folder>/a.gz', 'wb').write(b'x')",
        "logging.FileHandler('<folder>/log').emit(None)",
        "tempfile.mkdtemp(dir='<folder>')",
        "os.open('<folder>', os.O_TMPFILE | os.O_RDWR)",
        "os.mknod('<folder>/node')",
        "os.chown('<folder>/victim', 65534, 65534)",
        "os.replace('<folder>/victim', '<folder>/other')",
        "shutil.rmtree('<folder>', ignore_errors=False)",
        "os.statvfs('<folder>') and os.listdir('<folder>')",
        "importlib.machinery.SourceFileLoader('p', '<folder>/planted.py').load_module()",
        "zipimport.zipimporter('<folder>/a.zip')",
        "importlib.import_module('pytest')",
        "fcntl.flock(os.open('<folder>/victim', os.O_RDWR), fcntl.LOCK_EX)",
        "mmap.mmap(os.open('<folder>/victim', os.O_RDWR), 6)[0:1] = b'x'",
        "os.dup2(os.open('<secret>', 0), 0) or print(os.read(0, 9))",
        "os.chdir('<folder>') or open('secret').read()",
    )
    | calls(
        "2, b'<secret>', 0",
        "257, -100, b'<secret>', 0, 0",
        "85, b'<folder>/made', 0o600",
        "133, b'<folder>/n', 0o600, 0",
    ),
    "network": denied(
        "socket.create_connection(('::1', <tcp>), 1)",
        "socket.create_server(('', 0))",
        "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
        "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
        "socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)",
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', '<unix>')",
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)",
        "socket.getaddrinfo('example.org', 80)[0][4][0].index('.')",
        "socket.gethostbyname('example.org')",
        "http.client.HTTPConnection('127.0.0.1', <tcp>, timeout=1).connect()",
        "ssl.create_default_context().wrap_socket(socket.socket())",
        "ftplib.FTP('127.0.0.1', timeout=1)",
        "smtplib.SMTP('127.0.0.1', <tcp>, timeout=1)",
        "imaplib.IMAP4('127.0.0.1', <tcp>, timeout=1)",
        "asyncio.run(asyncio.open_connection('127.0.0.1', <tcp>))",
        "asyncio.run(asyncio.wait_for(asyncio.start_server(print, port=0), 1)).sockets[0]",
        "socketserver.TCPServer(('', 0), None)",
        "a, b = socket.socketpair()\nsocket.send_fds(a, [b'x'], [1])",
    )
    | calls(
        "41, 1, 2, 0",
        "41, 16, 3, 0",
        "53, 1, 2, 0, ctypes.byref((ctypes.c_int * 2)())",
        "42, 0, b'x' * 16, 16",
        "44, 1, b'x', 1, 0, None, 0",
    ),
    "processes": denied(
        "os.forkpty()",
        "pty.spawn(['/bin/true'])",
        "os.popen('echo x').read().index('x')",
        "subprocess.Popen([sys.executable, '-c', ''])",
        "subprocess.check_output('id', shell=True)",
        "assert os.spawnlp(os.P_WAIT, 'true', 'true') == 0",
        "os.execve(sys.executable, ['python', '-c', 'print(\"ESCAPED\")'], {})",
        "multiprocessing.Pool(1)",
        "multiprocessing.get_context('spawn').Process(target=print).start()",
        "concurrent.futures.ProcessPoolExecutor(1).submit(print).result(1)",
        "asyncio.run(asyncio.create_subprocess_shell('true'))",
        "venv.create('<folder>/venv')",
        "os.setpgid(0, os.getppid())",
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
        "os.sched_setaffinity(0, {0})",
        "os.setpriority(os.PRIO_USER, 0, -20)",
        "resource.prlimit(<parent>, resource.RLIMIT_NOFILE)",
        "os.pidfd_open(<parent>)",
        "os.getpgid(<parent>)",
    )
    | calls(
        "57",
        "58",
        "56, 0x4000 | 17, None, None, None, None",
        "435, b'x' * 88, 88",
        "59, b'/bin/true', None, None",
        "322, -100, b'/bin/true', None, None, 0",
        "101, 0, 0, 0, 0",
        "311, os.getppid(), None, 0, None, 0, 0",
        "272, 0x20000",
        "308, 0, 0",
    ),
    "signals": denied(
        "os.kill(<parent>, signal.SIGTERM)",
        "os.kill(os.getppid(), 0)",
        "os.kill(1, 0)",
        "os.killpg(os.getpgid(0), signal.SIGSTOP)",
        "signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)",
        "signal.raise_signal(signal.SIGUSR1)",
        "signal.setitimer(signal.ITIMER_REAL, 0.01)",
        "fcntl.fcntl(0, fcntl.F_SETOWN, <parent>)",
        "fcntl.fcntl(1, fcntl.F_SETFL, os.O_APPEND | 0o20000)",
        "fcntl.ioctl(0, termios.TIOCSTI, b'x')",
        "tty.setraw(0)",
    )
    | calls(
        "62, <parent>, 0",
        "200, <parent>, 0",
        "234, <parent>, <parent>, 0",
        "129, <parent>, 9, None",
        "297, <parent>, <parent>, 9, None",
        "424, 3, 9, None, 0",
        "282, -1, b'x' * 8, 8",
    ),
    "memory": ends(
        ("memory", "error", "timeout", "killed"),
        "x = bytearray(2**40)",
        "x = 'x' * 2**34",
        "x = [0] * 2**34",
        "x = {i: bytes(1000) for i in range(10**9)}",
        "x = b'x'\nwhile True: x += x",
        "x = set()\nwhile True: x.add(object())",
        "import itertools\nlist(itertools.product(range(100), repeat=10))",
        "import array\narray.array('q', range(10**10))",
        "import mmap\nx = [mmap.mmap(-1, 2**20) for _ in range(10**6)]",
        "import io\nx = io.BytesIO()\nwhile True: x.write(bytes(2**20))",
        "import re\nx = [re.compile(str(i) * 1000) for i in range(10**6)]",
        "import zlib\nx = zlib.decompress(zlib.compress(bytes(2**28))) * 100",
        "import decimal\ndecimal.getcontext().prec = decimal.MAX_PREC\ndecimal.Decimal(1) / 3",
        "import fractions, math\nx = fractions.Fraction(1, math.factorial(200000)) ** 10000",
        "def f(*a): return f(*a, *a)\nf(1, 2)",
    ),
    "time": ends(
        ("timeout",),
        "while True: 10**10**5",
        "import re\nre.match(r'(a+)+$', 'a' * 60 + 'b')",
        "import time\nwhile True:\n    try: time.sleep(100)\n    except BaseException: pass",
        "import threading\nthreading.Event().wait()",
        "import threading\na = threading.Lock()\na.acquire()\na.acquire()",
        "import queue\nqueue.Queue().get()",
        "import signal, time\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass",
        "import select, os\nselect.select([os.pipe()[0]], [], [])",
        "pow(3, 10**8)",
        "x = 1\nfor i in range(1, 10**7): x *= i",
        "sum(iter(int, 1))",
        "class A:\n    def __del__(self):\n        while True: pass\na = A()\ndel a",
        "sorted([3, 1, 2], key=type('K', (), {'__init__': lambda s, x: None, '__lt__': lambda s, o: sum(iter(int, 1))}))",
        "import asyncio\nasyncio.run(asyncio.Event().wait())",
    )
    | ends(
        ("timeout", "error", "ok", "killed"),
        "import threading, time\nthreading.Thread(target=time.sleep, args=(100,)).start()",
        "import atexit, time\natexit.register(time.sleep, 100)",
        "import sys\nsys.set_int_max_str_digits(0)\nstr(10**10**7)",
        "int('9' * 10**7)",
    ),
    "output": ends(
        ("output",),
        "while True: print('x')",
        "print('x' * 10**8)",
        "import sys\nsys.stdout.buffer.write(bytes(10**7))",
        "import sys\nwhile True: print('e', file=sys.stderr)",
        "import os\nwhile True: os.write(1, bytes(10**5))",
        "import os\nwhile True: os.write(2, b'\\xff' * 10**5)",
        "import os\nwhile True: os.writev(1, [b'x' * 1000] * 100)",
        "print('\\U0001F600' * 10**6)",
        "import os\nwhile True: os.write(3, b'[' * 10**5)",
    )
    | ends(
        ANY,
        "print('\\x1b[2J' * 100)",
        "print('\\x00' * 100)",
        "import os\nos.write(1, b'\\xff\\xfe\\xed\\xa0\\x80')",
        "import os\nos.close(1)\nprint('x')",
        "import os\nos.dup2(3, 1)\nprint('x' * 100)",
        "import os\nfor fd in range(64):\n    try: os.write(fd, b'x')\n    except OSError: pass",
        "import warnings\nwarnings.warn('x' * 10**5)",
        "raise ValueError('x' * 10**6)",
        "class E(Exception):\n    __str__ = lambda s: 'x' * 10**9\nraise E",
        "class E(Exception):\n    __repr__ = __str__ = lambda s: 1 / 0\nraise E",
        "raise SystemExit('x' * 10**6)",
        "raise SystemExit(10**100)",
        "raise BaseExceptionGroup('x', [KeyboardInterrupt()])",
    ),
    "interpreter": ends(
        ANY,
        "import ctypes\nctypes.memset(id(1), 0, 64)",
        "import ctypes\nctypes.pythonapi.Py_Exit(0)",
        "import ctypes\nctypes.CFUNCTYPE(None)(0)()",
        "import ctypes\nctypes.pythonapi.PyErr_SetInterrupt()",
        "import sys\nsys.setrecursionlimit(2**31 - 1)\nf = lambda: f()\nf()",
        "import sys\nsys.setswitchinterval(10**6)\nx = 1",
        "import sys\nsys.excepthook = lambda *a: 1 / 0\nraise ValueError",
        "import sys\nsys.displayhook = sys.unraisablehook = None\n1 / 0",
        "import sys\nsys.modules.clear()\nimport os",
        "import sys\nsys.path[:] = []\nimport wave",
        "import sys\nsys.exit = None\nsys._exit = None\nsys.stdout.close()",
        "import builtins\nbuiltins.len = lambda x: 10**9\nbuiltins.isinstance = lambda *a: True",
        "import builtins\nbuiltins.__build_class__ = None\nclass A: pass",
        "import builtins\nbuiltins.open = builtins.exec = builtins.compile = lambda *a, **k: 1 / 0",
        "import gc\ngc.disable()\nfor o in gc.get_objects():\n    if type(o) is dict: o.clear()",
        "import gc, types\nfor o in gc.get_objects():\n    if isinstance(o, types.FunctionType): o.__code__ = (lambda *a, **k: None).__code__",
        "import os\nos.write = os._exit = os.read = lambda *a: 1 / 0",
        "import json\njson.dumps = json.JSONEncoder.encode = lambda *a, **k: '[\"ok\"]'",
        "import faulthandler\nfaulthandler._sigsegv()",
        "import code\ncode.interact()",
        "import types\nf = lambda: 0\nf.__code__ = f.__code__.replace(co_code=b'\\xff' * 20)\nf()",
        "import marshal\nexec(marshal.loads(b'c' + bytes(200)))",
        'import pickle\npickle.loads(b\'cos\\nsystem\\n(S"echo ESC" "APED"\\ntR.\')',
        "compile('a' + '.a' * 10**5, '', 'exec')",
        "exec('x = ' + '[' * 10**5)",
        "exec('\\n' * 10**7)",
        "exec('if 1:\\n' + ' ' * 10**6 + 'x = 1')",
        "exec('f\"' + '{' * 1000 + '\"')",
        "eval('lambda ' * 10**4 + ': 1')",
        "import ast\nast.literal_eval('(' * 10**5)",
        "import sys, threading\nthreading.stack_size(2**28)\nthreading.Thread(target=print).start()",
        "import threading\nfor _ in range(1000): threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "import threading, os\nthreading.Thread(target=os._exit, args=(0,)).start()\nwhile True: pass",
        "import _thread\nwhile True: _thread.start_new_thread(_thread.interrupt_main, ())",
        "import os\nfor fd in range(3, 64):\n    try: os.dup2(0, fd)\n    except OSError: pass",
        "import os\nos.closerange(3, 64)\nprint('x')",
        "import os\nwhile os.dup(0) < 1000: pass",
        "import time\ntime.sleep(-1)",
        "x = float('nan')\n{x: 1}[x]",
        "del __builtins__\nprint('x')",
        "__name__ = None\n__file__ = 5\n__spec__.loader.exec_module(None)",
        "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nsignal.pause()",
    ),
    "judge's data": denied(
        "frame = sys._getframe()\nwhile frame:\n    assert 'expected' in frame.f_locals\n    frame = frame.f_back",
        "assert [o for o in gc.get_objects() if type(o) is dict and 'expressions' in o and o.get('source') is None]",
        "assert b'expected' in open('/proc/self/environ', 'rb').read()",
        "assert 'REASON_ENVS_TEST_SECRET' in os.environ",
        "assert ctypes.CDLL(None).getenv(b'REASON_ENVS_TEST_SECRET')",
        "assert os.pread(0, 100, 0)",
        "assert os.read(4, 100)",
        "assert sys.orig_argv[-1].endswith('secret')",
        "import reason_envs.sandbox.server",
        "import __main__\nassert __main__.tests",
        "socket.recv_fds(socket.socket(fileno=os.dup(0)), 1, 1)",
        "os.ptsname(0)",
    ),
}
PROGRAMS = {
    f"{kind}: {name}": Hostile(re.sub(r"<(\w+)>", r"{\1}", source.replace("{", "{{").replace("}", "}}")), statuses)
    for kind, programs in CLASSES.items()
    for name, (source, statuses) in programs.items()
}
