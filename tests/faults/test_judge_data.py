"""Programs that scan all of their memory do not find tests, references or data of earlier episodes."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys

import pytest
from memory_scans import KEEP_OWN, OWN_FOUND, SCANS

from reason_envs.rewards.code.grade import CodeGrader
from reason_envs.rewards.code.tests import StdioTests, UnitTests
from reason_envs.sandbox import Limits, Program, make_sandbox, native
from reason_envs.sandbox.http import HttpSandbox
from reason_envs.sandbox.layers import detect

MARKS = {
    place: f"planted_{place}_{number:016x}" for number, place in enumerate(("tests", "expected", "kept", "earlier"))
}
LIMITS = Limits(seconds=30.0, memory_mb=1024)
CASES = UnitTests(
    f"# {MARKS['tests']}\nassert f(1) == '{MARKS['expected']}'",
    "f",
    "f",
    f"x = '{MARKS['kept']}'\n" + f"def f(n):\n    return '{MARKS['expected']}'",
)
LOOP = UnitTests(CASES.code.replace("assert f(1)", "for n in [1, 2]:\n    assert f(n)"), "f", "f", CASES.reference)
PRINTED = StdioTests((("1", MARKS["expected"]),), f"# {MARKS['kept']}\nprint('{MARKS['expected']}')")


def scanned(sandbox, scan):
    """Grade programs, then run a program that scans its memory.

    Returns:
        The marks that it found, and the number of bytes that it read.
    """
    grader = CodeGrader(sandbox, LIMITS)

    async def grade():
        for tests in (CASES, LOOP, PRINTED):
            assert (await grader.grade(tests.reference, tests)).correct
        earlier = f"x = '{MARKS['earlier']}'\nprint(x, input())"
        assert (await sandbox.run(Program(earlier, MARKS["earlier"] * 1000, ("x",), LIMITS))).status == "ok"
        return [await sandbox.run(Program(scan, "", ("found", "bytes_read"), LIMITS)) for _ in range(2)]

    outcomes = asyncio.run(grade())
    sandbox.close()
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"], outcomes
    return set().union(*(outcome.values[0] for outcome in outcomes)), outcomes[0].values[1]


@pytest.fixture
def container(tmp_path):
    command = tmp_path / "docker"
    text = "import subprocess, sys\nif sys.argv[1] == 'run':\n    i = sys.argv.index('some/image') + 1\n"
    text += "    subprocess.run([*sys.argv[i:i + 4], sys.executable, *sys.argv[i + 5:]], env={})\n"
    command.write_text(f"#!{sys.executable}\n{text}")
    command.chmod(stat.S_IRWXU)
    return make_sandbox("container", image="some/image", command=str(command), workers=1)


@pytest.fixture
def http(monkeypatch):
    def run(self, body, *_):
        done = subprocess.run([sys.executable, "-c", body["code"]], capture_output=True, text=True, env={})
        return {"run_result": {"stdout": done.stdout, "stderr": done.stderr, "return_code": done.returncode}}

    monkeypatch.setattr(HttpSandbox, "_post", run)
    return make_sandbox("http", workers=1)


@pytest.fixture
def native_sandbox(monkeypatch):
    if sys.platform != "linux" or detect().missing:
        pytest.skip("the native sandbox cannot run here")
    paths = [*native.readable_paths(), "/proc"]
    monkeypatch.setattr(native, "readable_paths", lambda: paths)  # only here programs may list their memory
    return make_sandbox("native", workers=1)


@pytest.mark.parametrize("scan", SCANS.values(), ids=SCANS)
@pytest.mark.parametrize("layout", ["native_sandbox", "container", "http"])
def test_programs_do_not_find_data_of_the_judge_in_their_memory(layout, scan, request):
    found, bytes_read = scanned(request.getfixturevalue(layout), scan)
    assert found == set()
    assert bytes_read > 4e6


def test_programs_find_data_in_their_own_memory(native_sandbox):
    for scan in SCANS.values():
        outcome = native_sandbox.execute(Program(KEEP_OWN + scan, "", ("found",), LIMITS))
        assert outcome.values == (OWN_FOUND,), outcome
    native_sandbox.close()


@pytest.mark.parametrize("source", ["import ctypes", "import gc", "open('/proc/self/mem')", "import mmap"])
def test_monty_programs_cannot_read_memory(source):
    sandbox = make_sandbox("monty", workers=1)
    assert sandbox.execute(Program(source)).status == "error"
    sandbox.close()
