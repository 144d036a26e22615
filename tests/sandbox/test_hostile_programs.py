"""No hostile program escapes from a sandbox, each ends in time, and the sandbox keeps working."""

import asyncio
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hostile_classes
import hostile_programs
import pytest
from hostile_world import SECRET, open_world, reached

from reason_envs.sandbox import Limits, Program, make_sandbox
from reason_envs.sandbox.layers import detect

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("hostile programs")]  # one process runs them all once
PROGRAMS = {**hostile_programs.PROGRAMS, **hostile_classes.PROGRAMS}
LIMITS = Limits(seconds=2.0, memory_mb=256)
LATE = 10.0
"""Maximum time in seconds to end a program after its limit, on a busy machine."""
NEEDS_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the native sandbox needs Linux")


def missing_layers():
    return detect().missing if sys.platform == "linux" else ["Linux"]


@pytest.fixture(scope="module", autouse=True)
def _secret_environment():
    os.environ["REASON_ENVS_TEST_SECRET"] = SECRET
    yield
    del os.environ["REASON_ENVS_TEST_SECRET"]


@pytest.fixture(scope="module")
def world():
    with open_world() as opened:
        yield opened


def run_all(sandbox, world):
    async def run():
        start = time.monotonic()
        programs = [Program(world.fill(hostile.source), limits=LIMITS) for hostile in PROGRAMS.values()]
        outcomes = await asyncio.gather(*(sandbox.run(program) for program in programs))
        return dict(zip(PROGRAMS, outcomes, strict=True)), time.monotonic() - start

    return asyncio.run(run())


@pytest.fixture(scope="module")
def native(world):
    if missing_layers():
        pytest.skip(f"the native sandbox lacks {missing_layers()} here")
    sandbox = make_sandbox("native", workers=2)
    outcomes, _ = run_all(sandbox, world)
    yield sandbox, outcomes
    sandbox.close()


@pytest.fixture(scope="module")
def monty(world):
    sandbox = make_sandbox("monty", workers=2)
    outcomes, _ = run_all(sandbox, world)
    yield sandbox, outcomes
    sandbox.close()


def test_hostile_programs_are_numerous():
    assert len(hostile_programs.PROGRAMS) >= 60
    assert len(hostile_classes.PROGRAMS) >= 150
    assert min(map(len, hostile_classes.CLASSES.values())) >= 10


@pytest.mark.parametrize("name", PROGRAMS)
def test_native_contains_hostile_programs(name, native, world):
    outcome = native[1][name]
    assert "ESCAPED" not in outcome.stdout + outcome.stderr, outcome
    assert SECRET not in repr(outcome)
    assert outcome.status in PROGRAMS[name].statuses, outcome
    assert outcome.seconds < LIMITS.seconds + LATE
    assert len(outcome.stdout) <= LIMITS.output_bytes


@pytest.mark.parametrize("name", PROGRAMS)
def test_monty_contains_hostile_programs(name, monty):
    outcome = monty[1][name]
    assert "ESCAPED" not in outcome.stdout + outcome.stderr, outcome
    assert SECRET not in repr(outcome)
    assert outcome.seconds < LIMITS.seconds + LATE


@pytest.mark.parametrize("backend", ["native", "monty"])
def test_sandbox_works_after_hostile_programs(backend, request, world):
    sandbox, _ = request.getfixturevalue(backend)
    outcomes = [sandbox.execute(Program("x = 6 * 7", expressions=("x",))) for _ in range(4)]
    assert [outcome.value for outcome in outcomes] == [42] * 4
    assert world.is_untouched()


def test_native_leaves_no_processes(native):
    if os.geteuid() != 0:
        pytest.skip("programs run as the user that runs the tests")
    program = Program("import os, time\nprint(os.getuid())\ntime.sleep(0.5)")
    with ThreadPoolExecutor(2) as threads:  # other sandboxes of this machine have other users
        ours = {int(outcome.stdout) for outcome in threads.map(native[0].execute, [program] * 2)}
    assert len(ours) == 2
    left = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            uid = int(status.read_text().split("Uid:")[1].split()[0])
        except OSError:  # the process has ended
            continue
        left += [status] if uid in ours else []
    assert left == []


@NEEDS_LINUX
@pytest.mark.parametrize("name", [name for name, hostile in PROGRAMS.items() if hostile.works_unsealed])
def test_hostile_programs_succeed_without_a_sandbox(name, world, tmp_path):
    """The attacks succeed without a sandbox, so the tests above can fail."""
    source = world.fill(PROGRAMS[name].source)
    before = {path.name for path in world.folder.iterdir()}
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    for path in world.folder.iterdir():
        if path.name not in before and path.name != "__pycache__":
            path.rmdir() if path.is_dir() else path.unlink()
    for listening in world.sockets.values():
        while reached(listening):
            pass
    assert "ESCAPED" in done.stdout, done
