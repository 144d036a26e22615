"""The container sandbox, with a replacement for docker that runs programs in plain processes."""

import os
import stat
import sys
import textwrap

import pytest

from reason_envs.errors import ReasonEnvsError
from reason_envs.sandbox import Limits, Program, Raised, make_sandbox

DOCKER = """\
    #!{python}
    import json, os, subprocess, sys
    with open(os.path.join("{folder}", "calls"), "a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\\n")
    if os.path.exists(os.path.join("{folder}", "down")):
        sys.exit("Cannot connect to the Docker daemon.")
    if sys.argv[1] == "run":
        inside = sys.argv[sys.argv.index("some/image") + 1 :]
        assert inside[:3] == ["timeout", "-s", "KILL"], inside
        done = subprocess.run([*inside[:4], sys.executable, *inside[5:]], env={{}})
        sys.exit(done.returncode if done.returncode >= 0 else 128 - done.returncode)
"""


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """Folder of a replacement for docker on PATH."""
    command = tmp_path / "docker"
    command.write_text(textwrap.dedent(DOCKER).format(python=sys.executable, folder=tmp_path))
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.fixture
def sandbox(docker):
    sandbox = make_sandbox("container", image="some/image", workers=1)
    yield sandbox
    sandbox.close()


def test_container_prints_reads_and_evaluates(sandbox):
    outcome = sandbox.execute(Program("print('got', input(), 'é')\nx = (1, {2})", "one\n", ("x", "1 / 0")))
    assert (outcome.status, outcome.stdout) == ("ok", "got one é\n")
    assert outcome.values == ((1, {2}), Raised("ZeroDivisionError", "ZeroDivisionError: division by zero"))


def test_container_is_isolated(sandbox, docker):
    limits = Limits(seconds=3, memory_mb=100, processes=5)
    sandbox.execute(Program("", limits=limits))
    inspect, run = (docker / "calls").read_text().splitlines()
    assert '"image", "inspect", "some/image"' in inspect
    for flag in ("--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--rm",
                 "--user=65534:65534", "--memory=100m", "--memory-swap=100m", "--pids-limit=6"):  # fmt: skip
        assert f'"{flag}"' in run, flag
    assert '"KILL", "3"' in run
    sandbox.execute(Program(""))
    assert len((docker / "calls").read_text().splitlines()) == 3  # the image is inspected once


@pytest.mark.parametrize(
    ("source", "status", "words"),
    [
        ("1 / 0", "error", "division"),
        ("while True: pass", "timeout", "more than 1 seconds"),
        ("import os\nos._exit(0)", "killed", "status 0"),
        ("import os\nos._exit(125)", "killed", "status 125"),
        ("import os\nos.kill(os.getpid(), 9)", "memory", "memory"),
        ("while True: print('x' * 1000)", "output", "bytes of output"),
        ("import sys\nwhile True: sys.stderr.write('x' * 1000)", "timeout", "seconds"),
        ("import os\nos.write(1, b'--- values 0 ---\\n')", "ok", ""),
    ],
)
def test_container_returns_an_outcome_for_every_end(sandbox, source, status, words):
    outcome = sandbox.execute(Program(source, limits=Limits(seconds=1, output_bytes=10_000)))
    assert outcome.status == status, outcome
    assert words in outcome.reason
    assert outcome.seconds < 30
    assert sandbox.execute(Program("", expressions=("2",), limits=Limits(seconds=30))).value == 2


def test_container_raises_if_the_service_is_down(sandbox, docker):
    (docker / "down").touch()
    with pytest.raises(ReasonEnvsError, match=r"Cannot connect.*docker pull some/image"):
        sandbox.execute(Program(""))
    (docker / "down").unlink()
    assert sandbox.execute(Program("")).status == "ok"
    (docker / "down").touch()  # it stops later
    with pytest.raises(ReasonEnvsError, match="Cannot connect"):
        sandbox.execute(Program(""))


def test_container_uses_the_given_runtime(docker):
    sandbox = make_sandbox("container", image="some/image", runtime="runsc")
    sandbox.execute(Program(""))
    assert '"--runtime=runsc"' in (docker / "calls").read_text()


def test_container_refuses_a_machine_without_docker(monkeypatch):
    monkeypatch.setenv("PATH", "")
    sandbox = make_sandbox("container")
    with pytest.raises(ReasonEnvsError, match="does not find docker or podman on PATH"):
        sandbox.execute(Program(""))
