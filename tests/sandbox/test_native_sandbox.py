"""The native sandbox: rights of programs, outcomes, and isolation layers."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from reason_envs.errors import ReasonEnvsError
from reason_envs.sandbox import Limits, Opaque, Program, Raised, layers, make_sandbox
from reason_envs.sandbox.layers import Layers, detect

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the native sandbox needs Linux"),
]


@pytest.fixture(scope="module")
def sandbox():
    missing = layers.detect().missing
    if missing:
        pytest.skip(f"the native sandbox lacks {missing} here")
    sandbox = make_sandbox("native", workers=2)
    yield sandbox
    sandbox.close()


def values(sandbox, source, *expressions, **options):
    outcome = sandbox.execute(Program(source, expressions=expressions, **options))
    assert outcome.status == "ok", outcome
    return outcome.values


def test_native_prints_reads_and_evaluates(sandbox):
    outcome = sandbox.execute(
        Program("a = input()\nprint('got', a, 'é')\nx = (a, 2**70)", "one\ntwo\n", ("x", "input()"))
    )
    assert (outcome.status, outcome.stdout, outcome.stderr, outcome.reason) == ("ok", "got one é\n", "", "")
    assert outcome.values == (("one", 2**70), "two")
    assert 0 < outcome.seconds < 5


def test_native_evaluates_expressions_after_one_that_raises(sandbox):
    raised, value, function = values(sandbox, "def f(): pass", "1 / 0", "3", "f")
    assert raised == Raised("ZeroDivisionError", "ZeroDivisionError: division by zero")
    assert value == 3
    assert function == Opaque("function")


def test_native_reports_the_line_of_an_error(sandbox):
    outcome = sandbox.execute(Program("x = 1\nx.y"))
    assert outcome.status == "error"
    assert outcome.reason == "AttributeError: 'int' object has no attribute 'y'"
    assert 'File "<program>", line 2' in outcome.stderr
    with pytest.raises(ReasonEnvsError, match="no attribute 'y'"):
        _ = outcome.value


@pytest.mark.parametrize(
    ("source", "status"), [("raise SystemExit", "ok"), ("raise SystemExit(0)", "ok"), ("raise SystemExit(2)", "error")]
)
def test_native_reads_the_exit_status(sandbox, source, status):
    assert sandbox.execute(Program(source)).status == status


def test_native_programs_can_import_the_standard_library(sandbox):
    source = "import asyncio, ctypes.util, decimal, hashlib, importlib.metadata, json.tool, statistics, threading\n"
    source += "async def main():\n    await asyncio.sleep(0)\n    return 'ä'.encode('latin-1')\nx = asyncio.run(main())"
    assert values(sandbox, source, "x", "statistics.mean([1, 2])") == (b"\xe4", 1.5)


def test_native_limits_threads(sandbox):
    source = (
        "import threading, time\n"
        "threads = [threading.Thread(target=time.sleep, args=(0.2,)) for _ in range(5)]\n"
        "started = 0\n"
        "try:\n    for thread in threads:\n        thread.start()\n        started += 1\nexcept RuntimeError: pass"
    )
    assert values(sandbox, source, "started") == (5,)
    if (
        os.geteuid() == 0 or subprocess.run(["unshare", "-U", "true"]).returncode == 0
    ):  # it has its own user or namespace
        assert values(sandbox, source, "started", limits=Limits(processes=3)) == (2,)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives each program its own user")
def test_native_sandboxes_of_one_machine_have_different_users():
    sandboxes = [make_sandbox("native", workers=1) for _ in range(2)]
    users = [values(sandbox, "import os", "os.getuid()") for sandbox in sandboxes]
    sandboxes[0].close()
    third = make_sandbox("native", workers=1)
    assert len(set(users)) == 2
    assert values(third, "import os", "os.getuid()") != users[1]
    for sandbox in (sandboxes[1], third):
        sandbox.close()


def test_native_programs_do_not_affect_later_ones():
    sandbox = make_sandbox("native", workers=1)
    sandbox.execute(Program("import builtins, json, random\nbuiltins.len = json.dumps = None\nrandom.random = None"))
    assert values(sandbox, "import json, random", "len('ab')", "json.dumps(1)", "random.random() < 1") == (2, "1", True)
    sandbox.close()


def test_native_runs_are_deterministic(sandbox):
    source = "import random\nx = [random.random(), list({'a', 'b', 'c', 'd'}), hash('x')]"
    assert values(sandbox, source, "x") == values(sandbox, source, "x")


def test_native_limits_the_size_of_values(sandbox):
    outcome = sandbox.execute(Program("", expressions=("1", "'x' * 200000", "2")))
    assert (outcome.status, outcome.values) == ("output", (1,))


def test_native_returns_many_outcomes_in_order(sandbox):
    async def main():
        runs = (sandbox.run(Program("", expressions=(f"{i} * {i}",))) for i in range(40))
        return [outcome.value for outcome in await asyncio.gather(*runs)]

    assert asyncio.run(main()) == [i * i for i in range(40)]


def test_native_workers_run_in_parallel(sandbox):
    async def main():
        start = time.monotonic()
        await asyncio.gather(*(sandbox.run(Program("import time\ntime.sleep(1)")) for _ in range(2)))
        return time.monotonic() - start

    asyncio.run(main())
    assert asyncio.run(main()) < 1.9


def processes_of(server):
    """Return the ids of a server and of the process that forks its programs."""
    pid = server.process.pid
    return pid, int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


@pytest.mark.parametrize("place", [0, 1], ids=["server", "fork"])
def test_native_runs_a_program_again_if_its_server_is_lost(place):
    sandbox = make_sandbox("native", workers=2)
    asyncio.run(sandbox.run(Program("")))
    for server in sandbox._servers:
        os.kill(processes_of(server)[place], signal.SIGKILL)
    assert values(sandbox, "", "1") == (1,)
    killer = threading.Timer(0.3, lambda: os.kill(processes_of(sandbox._servers[0])[place], signal.SIGKILL))
    killer.start()
    assert values(sandbox, "import time\ntime.sleep(0.6)", "2") == (2,)
    killer.join()
    sandbox.close()
    assert values(sandbox, "", "3") == (3,)
    sandbox.close()


def test_native_ends_a_program_whose_server_is_lost_each_time(monkeypatch):
    sandbox = make_sandbox("native", workers=1)
    monkeypatch.setattr("reason_envs.sandbox.native._Server.ask", lambda *_: (_ for _ in ()).throw(BrokenPipeError))
    monkeypatch.setattr(sandbox, "_check", lambda server: None)
    assert sandbox.execute(Program("")).status == "killed"
    assert sandbox._servers == []


def test_native_starts_new_servers_in_a_forked_process(sandbox):
    assert values(sandbox, "", "1") == (1,)
    pid = os.fork()
    if pid == 0:
        try:
            ok = sandbox.execute(Program("", expressions=("5",))).values == (5,)
            sandbox.close()
            os._exit(0 if ok else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert values(sandbox, "", "2") == (2,)


def test_native_servers_end_with_their_parent():
    code = (
        "import os\nfrom reason_envs.sandbox import *\ns = make_sandbox('native', workers=1)\n"
        "assert s.execute(Program('')).status == 'ok'\nprint(s._servers[0].process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    server = int(done.stdout)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(server, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail(f"the server {server} goes on")


def test_native_names_its_layers(sandbox):
    assert {"rlimits", "no_new_privs", "seccomp"} <= set(sandbox.layers)
    assert {"landlock", "bubblewrap"} & set(sandbox.layers)
    assert ("uid" in sandbox.layers) == (os.geteuid() == 0)
    assert sandbox.summary == f"native ({', '.join(sandbox.layers)})"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Layers(0, None, "code", ""), ["landlock or bubblewrap", "bubblewrap of your distribution"]),
        (Layers(4, None, None, "no libseccomp"), ["seccomp", "no libseccomp"]),
    ],
)
def test_native_refuses_missing_layers(found, words, monkeypatch):
    monkeypatch.setattr("reason_envs.sandbox.native.detect", lambda: found)
    sandbox = make_sandbox("native")  # building it succeeds on every machine
    with pytest.raises(ReasonEnvsError, match=r"set require=\[\]") as error:
        sandbox.execute(Program(""))
    assert all(word in str(error.value) for word in words)


def test_native_runs_with_fewer_layers_if_allowed(monkeypatch):
    monkeypatch.setattr("reason_envs.sandbox.native.detect", lambda: Layers(0, None, None, "none"))
    sandbox = make_sandbox("native", workers=1, require=[])
    assert sandbox.layers == ("rlimits", "no_new_privs", *(["uid"] if os.geteuid() == 0 else []))
    assert "WITHOUT seccomp (none), WITHOUT files (landlock or bubblewrap: " in sandbox.summary
    assert values(sandbox, "import os\nx = os.listdir('/')", "len(x) > 0") == (True,)
    late = sandbox.execute(Program("import os, time\nif not os.fork(): time.sleep(60)", limits=Limits(seconds=0.5)))
    assert late.seconds < 5  # a child that keeps the pipes open does not block the server
    sandbox.close()


def test_native_refuses_a_layer_that_cannot_be_activated(monkeypatch):
    found = Layers(0, None, "AAAA", "")
    monkeypatch.setattr("reason_envs.sandbox.native.detect", lambda: found)
    sandbox = make_sandbox("native", workers=1, require=[])
    with pytest.raises(ReasonEnvsError, match=r"cannot be activated.*seccomp"):
        sandbox.execute(Program(""))


def test_native_explains_an_interpreter_that_cannot_run(monkeypatch):
    monkeypatch.setattr("reason_envs.sandbox.native.interpreter", lambda: "/")
    with pytest.raises(ReasonEnvsError, match=r"did not start.*Permission denied"):
        make_sandbox("native").execute(Program(""))


def test_native_refuses_other_systems(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    detect.cache_clear()
    with pytest.raises(ReasonEnvsError, match=r"requires Linux, but this system is 'darwin'.*Use the sandbox monty"):
        make_sandbox("native").execute(Program(""))
    detect.cache_clear()


@pytest.mark.parametrize("require", [["landlock"], ["bubblewrap"], ["files", "seccomp", "uid"], ["seccomp"]])
def test_native_refuses_to_start_without_required_layers(require, monkeypatch):
    monkeypatch.setattr("reason_envs.sandbox.native.detect", lambda: Layers(0, None, None, "none"))
    with pytest.raises(ReasonEnvsError, match=rf"The native sandbox lacks {require[0]} \("):
        make_sandbox({"name": "native", "require": require})
    monkeypatch.setattr("reason_envs.sandbox.native.detect", lambda: Layers(6, "bwrap", "code", ""))
    make_sandbox("native", require=[layer for layer in require if layer != "uid"])


def test_native_explains_wrong_requirements():
    with pytest.raises(ReasonEnvsError, match=r"require=\['selinux', 'seccomp'\] must be names of layers: seccomp"):
        make_sandbox("native", require=["selinux", "seccomp"])
    with pytest.raises(ReasonEnvsError, match=r"allow_weaker=True is not an option.*It has a new name: 'require'"):
        make_sandbox("native", allow_weaker=True)


def test_native_refuses_invalid_options():
    with pytest.raises(ReasonEnvsError, match=r"^seconds=0 must be above 0"):
        Limits(seconds=0)
    with pytest.raises(ReasonEnvsError, match=r"^workers=0 must be at least 1"):
        make_sandbox("native", workers=0)
    with pytest.raises(ReasonEnvsError, match="Did you mean 'native'"):
        make_sandbox("nativ")
    with pytest.raises(ReasonEnvsError, match="require"):
        make_sandbox("native", requires=[])
