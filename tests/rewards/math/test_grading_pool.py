import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards.math import worker_pool as pool_module
from reason_envs.rewards.math.worker_pool import GradingPool

BOMB = "9^{9^{9}}"


@pytest.fixture
def pool():
    made = GradingPool(workers=1, limit=2.0)
    yield made
    made.close()


def worker_pid(pool):
    return pool._idle[0].process.pid


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid, seconds=10.0):
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_alive(pid)


def run(code, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, **options
    )


def test_pool_starts_no_process_before_the_first_request(pool):
    assert pool._idle == []
    assert pool.submit("x+1", "1+x").result() == "equal"
    assert is_alive(worker_pid(pool))


def test_pool_reuses_a_worker(pool):
    pool.submit("x", "y").result()
    pid = worker_pid(pool)
    assert [pool.submit("x+1", "1+x").result() for _ in range(20)] == ["equal"] * 20
    assert worker_pid(pool) == pid


def test_pool_replaces_a_worker_after_a_timeout(pool):
    pool.submit("x", "y").result()
    pid, start = worker_pid(pool), time.monotonic()
    assert pool.submit("1", BOMB).result() == "timeout"
    assert time.monotonic() - start < 4.0
    assert not is_alive(pid)
    assert pool.submit("x+1", "1+x").result() == "equal"


def test_pool_replaces_a_worker_that_died_idle(pool):
    pool.submit("x", "y").result()
    os.kill(worker_pid(pool), signal.SIGKILL)
    assert pool.submit("x+1", "1+x").result() == "equal"


def test_pool_reports_answers_that_crash_every_worker(pool, tmp_path, monkeypatch):
    script = tmp_path / "worker.py"
    script.write_text("import os, sys\nos.write(0, b'\"ready\"\\n')\nsys.stdin.readline()\nos.abort()\n")
    monkeypatch.setattr(pool_module, "_WORKER", script)
    assert pool.submit("1", "2").result() == "worker_died"


def test_pool_explains_a_worker_that_cannot_start(pool, tmp_path, monkeypatch):
    script = tmp_path / "worker.py"
    script.write_text("raise SystemExit(3)\n")
    monkeypatch.setattr(pool_module, "_WORKER", script)
    with pytest.raises(ReasonEnvsError, match=r"exit status 3.*import math_verify"):
        pool.submit("1", "2").result()


def test_close_ends_the_workers(pool):
    pool.submit("x", "y").result()
    pid = worker_pid(pool)
    pool.close()
    assert not is_alive(pid)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"workers": 0}, "workers=0 must be at least 1"), ({"limit": 0}, "limit=0 must be above 0")],
)
def test_pool_refuses_bad_options(options, message):
    with pytest.raises(ReasonEnvsError, match=message):
        GradingPool(**options)


START = """
    import json, os, signal, sys, time
    from reason_envs.rewards import grade_math, grade_math_batch
    from reason_envs.rewards.math.worker_pool import DEFAULT_POOL
    grade_math_batch([(r"\\boxed{x}", "y")] * 4)
    print(json.dumps([worker.process.pid for worker in DEFAULT_POOL._idle]), flush=True)
"""


def test_exit_of_the_parent_ends_the_workers():
    done = run(START)
    pids = json.loads(done.stdout)
    assert done.returncode == 0
    assert pids
    assert all(wait_until_gone(pid) for pid in pids)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "computing"])
def test_kill_of_the_parent_ends_the_workers(busy):
    last = 'DEFAULT_POOL.submit("1", "9^{9^{9}}"); time.sleep(0.5)' if busy else ""
    done = run(START + f"    DEFAULT_POOL.limit = 1.0\n    {last}\n    os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode == -signal.SIGKILL
    assert all(wait_until_gone(pid) for pid in json.loads(done.stdout))


def test_forked_child_has_separate_workers():
    done = run(
        START
        + """
    child = os.fork()
    if child == 0:
        ok = grade_math(r"\\boxed{x+1}", "1+x").correct
        mine = {worker.process.pid for worker in DEFAULT_POOL._idle}
        print(json.dumps([ok, sorted(mine)]), flush=True)
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(json.dumps(grade_math(r"\\boxed{x+2}", "2+x").correct))
    """
    )
    assert done.returncode == 0, done.stderr
    parents, (child_ok, childs), parent_ok = (json.loads(line) for line in done.stdout.splitlines())
    assert child_ok
    assert parent_ok
    assert childs
    assert not set(parents) & set(childs)
