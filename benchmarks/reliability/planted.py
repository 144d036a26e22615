"""Marks in tests, references, inputs and earlier programs, searched by programs that scan all of their memory.

    python -m benchmarks.reliability.planted
    setpriv --reuid 65534 --regid 65534 --clear-groups python -m benchmarks.reliability.planted   # no root

Every sandbox runs 16 programs at once. In each episode it grades three programs, runs one more, and runs one program
per kind of scan, in random order. A scan reads every mapped page (``maps``: those of ``/proc/self/maps``, which is made
readable for this; ``probe``: those that the kernel can read) and searches marks in strings of each width. A control
must find its own marks. Monty has no way to read memory, so its programs try what other interpreters offer.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from memory_scans import KEEP_OWN, OWN_FOUND, SCANS

from benchmarks.reliability.common import measure, options
from reason_envs.rewards.code.grade import CodeGrader
from reason_envs.rewards.code.tests import StdioTests, UnitTests
from reason_envs.sandbox import Limits, Outcome, Program, Sandbox, make_sandbox, native
from reason_envs.sandbox import layers as layers_of
from reason_envs.sandbox.layers import Layers, detect

LIMITS = Limits(seconds=120.0, memory_mb=1024)
WORKERS = 16
LAST = ("!", "\u0436", "\U0001f600")
"""Last characters of strings, which Python then stores with 1, 2 and 4 bytes per character."""
PLACES = ("tests", "expected", "kept", "input", "value", "printed")
REFUSED = (
    *("import ctypes", "import gc", "import mmap", "import inspect", "import marshal", "import _testcapi"),
    *("x = open('/proc/self/mem')", "x = open('/proc/self/maps')", "x = ().__class__.__base__.__subclasses__()"),
    *(
        "x = object.__subclasses__()",
        "x = (lambda: 0).__globals__",
        "x = globals()['__builtins__']",
        "x = memoryview(b'')",
    ),
)
"""Ways to memory or to foreign objects, which Monty's programs must not have."""


def marked(number: int) -> dict[str, str]:
    """Return the mark of each place in an episode."""
    return {place: f"planted_{place}_{number:016x}{LAST[number % 3]}" for place in PLACES}


def episode(number: int) -> tuple[list[UnitTests | StdioTests], Program]:
    """Return tests whose references are graded, and one more program."""
    marks = marked(number)
    reference = f"x = '{marks['kept']}'\ndef f(n):\n    return '{marks['expected']}'"
    code = f"# {marks['tests']}\nassert f(1) == '{marks['expected']}'"
    loop = code.replace("assert f(1)", "for n in [1, 2]:\n    assert f(n)")
    printed = StdioTests((("1", marks["expected"]),), f"# {marks['kept']}\nprint('{marks['expected']}')")
    earlier = f"x = '{marks['value']}'\nprint('{marks['printed']}', len(input()))"
    tests = [UnitTests(code, "f", "f", reference), UnitTests(loop, "f", "f", reference), printed]
    return tests, Program(earlier, marks["input"] * 1000, ("x",), LIMITS)


def scan(sandbox: Sandbox, scans: list[str], episodes: int, seed: int) -> dict[str, Any]:
    """Play episodes and scans in random order; return the results."""
    grader, draw = CodeGrader(sandbox, LIMITS), random.Random(seed)
    control = [sandbox.execute(Program(KEEP_OWN + SCANS[name], "", ("found",), LIMITS)) for name in scans]
    bad = [f"the control of {name}: {o}" for name, o in zip(scans, control, strict=True) if o.values != (OWN_FOUND,)]

    async def graded(tests: UnitTests | StdioTests) -> None:
        grade = await grader.grade(tests.reference, tests)
        if not grade.correct:
            bad.append(f"a reference is graded {grade.reason}")

    async def play() -> list[Outcome]:
        jobs: list[Any] = []
        for number in range(seed * episodes, (seed + 1) * episodes):
            tests, earlier = episode(number)
            jobs += [*map(graded, tests), sandbox.run(earlier)]
            jobs += [sandbox.run(Program(SCANS[name], "", ("found", "bytes_read"), LIMITS)) for name in scans]
        draw.shuffle(jobs)
        return [done for done in await asyncio.gather(*jobs) if done is not None and len(done.values) != 1]

    outcomes = asyncio.run(play())
    ended = [outcome for outcome in outcomes if outcome.status == "ok"]
    found = set().union(*(outcome.values[0] for outcome in ended)) if ended else set()
    read = [outcome.values[1] for outcome in ended]
    bad += [f"a scan ended with {o.status}: {o.reason} {o.stderr[-200:]}" for o in outcomes if o.status != "ok"]
    bad += [f"a scan read {size} bytes" for size in read if size < 4e6]
    return {
        "kinds of scans": " and ".join(scans),
        "marks": len(PLACES) * episodes,
        "scans": len(outcomes),
        "MiB per scan": round(sum(read) / max(1, len(read)) / 2**20),
        "marks found": len(found),
        "bad": [*map(str, found), *bad],
    }


def refused(sandbox: Sandbox, episodes: int, seed: int) -> dict[str, Any]:
    """Try every way to memory in Monty after an episode; return the results."""
    bad, tried = [], 0
    for number in range(seed * episodes, (seed + 1) * episodes):
        tests, earlier = episode(number)
        for program in (earlier, *(Program(t.reference, "1", (), LIMITS) for t in tests)):
            sandbox.execute(program)
        for way in REFUSED:
            outcome = sandbox.execute(Program(way, "", (), LIMITS))
            tried += 1
            bad += [f"{way}: {outcome}"] if outcome.status == "ok" or "planted_" in repr(outcome) else []
    return {
        "kinds of scans": "none: refused",
        "marks": len(PLACES) * episodes,
        "scans": tried,
        "MiB per scan": 0,
        "marks found": sum("planted_" in each for each in bad),
        "bad": bad,
    }


class _RunCode(BaseHTTPRequestHandler):
    """SandboxFusion's ``/run_code``, without isolation."""

    def do_POST(self) -> None:
        code = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["code"]
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={})
        result = {"stdout": done.stdout, "stderr": done.stderr, "return_code": done.returncode, "status": "Finished"}
        body = json.dumps({"run_result": result}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@contextmanager
def http() -> Iterator[Sandbox]:
    """Open the sandbox http with a server of its interface."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _RunCode) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield make_sandbox("http", workers=WORKERS, url=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


@contextmanager
def container() -> Iterator[Sandbox]:
    """Open the sandbox container with a command that runs programs without isolation, as docker's process would."""
    with tempfile.TemporaryDirectory() as folder:
        command = Path(folder) / "docker"
        text = "import subprocess, sys\nif sys.argv[1] == 'run':\n    i = sys.argv.index('some/image') + 1\n"
        text += "    subprocess.run([*sys.argv[i:i + 4], sys.executable, *sys.argv[i + 5:]], env={})\n"
        command.write_text(f"#!{sys.executable}\n{text}")
        command.chmod(0o755)
        yield make_sandbox("container", workers=WORKERS, image="some/image", command=str(command))


@contextmanager
def with_layers(layers: Layers) -> Iterator[Sandbox]:
    """Open the native sandbox with these layers; its programs may list their memory."""
    paths = [*native_paths(), "/proc"]
    for module in (native, layers_of):
        module.readable_paths = lambda: [*paths]  # type: ignore[assignment]
    native.detect = lambda: layers  # type: ignore[assignment]
    yield make_sandbox("native", workers=WORKERS)


native_paths = native.readable_paths


def cell(open_sandbox: Callable[[], Any], scans: list[str], episodes: int, seed: int) -> dict[str, Any]:
    """Measure one layout."""
    with open_sandbox() as sandbox:
        try:
            return scan(sandbox, scans, episodes, seed) if scans else refused(sandbox, episodes, seed)
        finally:
            sandbox.close()


def layouts() -> dict[str, tuple[Callable[[], Any], list[str]]]:
    """Return how to open the sandbox of each layout of this machine, and its scans."""
    found = detect()
    user = "root" if os.geteuid() == 0 else "an ordinary user"
    native_layers = {f"native, Landlock {found.landlock}": replace(found, bubblewrap=None)} if found.landlock else {}
    if found.bubblewrap:
        native_layers[f"native, bubblewrap and Landlock {found.landlock}"] = found
        native_layers["native, bubblewrap"] = replace(found, landlock=0)
    chosen = {name: (partial(with_layers, layers), list(SCANS)) for name, layers in native_layers.items()}
    chosen["container, a stand-in for docker"] = (container, list(SCANS))
    chosen["http"] = (http, list(SCANS))
    chosen["monty"] = (partial(_monty), [])
    return {f"{name}, {user}": each for name, each in chosen.items()}


@contextmanager
def _monty() -> Iterator[Sandbox]:
    yield make_sandbox("monty", workers=WORKERS)


def main() -> int:
    """Measure every layout."""
    given = options(__doc__, episodes=100)
    cells = {name: partial(cell, *each, given.episodes, given.seed) for name, each in layouts().items()}
    return measure("planted", given.seed, cells)


if __name__ == "__main__":
    sys.exit(main())
