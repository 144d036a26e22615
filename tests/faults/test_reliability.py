"""Short forms of the harnesses in ``benchmarks/reliability``."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest

from agents.config.command_line import report_errors
from agents.config.compose import compose_config
from benchmarks.reliability import fuzz
from reason_envs.errors import ReasonEnvsError
from reason_envs.registry import parse_options

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the harness forks and reads /proc")


@pytest.mark.parametrize("name", [name for name in fuzz.PARSERS if name != "actions of reason_tree"])
def test_parsers_read_or_refuse_random_texts(name):
    assert fuzz.fuzz(name, 300, seed=11)["bad"] == []


@pytest.mark.parametrize("pair", ["[=1", "[env={a: 1}", f"a={'{' * 3000}", "a=\ud800", f"a={'9' * 5000}"])
def test_options_that_cannot_be_read_are_explained(pair):
    with pytest.raises(ReasonEnvsError, match="Cannot read"):
        parse_options([pair])


@pytest.mark.parametrize(
    "override", ["=1", "[=1", f"steps={'9' * 5000}", f"env.tasks={{a: {'9' * 5000}}}", "steps=\ud800"]
)
def test_overrides_that_cannot_be_read_are_explained(override):
    with pytest.raises(ReasonEnvsError, match=r"Cannot read|Bad value|must be a string|Exceeds the limit"):
        compose_config([override])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOENT, errno.EROFS, errno.EIO], ids=errno.errorcode.get)
def test_errors_of_a_disk_are_one_message(number, capsys):
    with pytest.raises(SystemExit) as ended, report_errors():
        raise OSError(number, os.strerror(number), "run/metrics\x1b[2J.jsonl")
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert os.strerror(number) in message
    assert "Check the folder and the space on its disk, then repeat the command" in message
    assert "\x1b" not in message


def test_other_errors_of_the_system_keep_their_traceback():
    with pytest.raises(ConnectionResetError), report_errors():
        raise ConnectionResetError(errno.ECONNRESET, "reset")


# These happen in one run.
EVENTS = ("the clock is set back a day", "train.log is removed", "checkpoints are removed")


@pytest.fixture(scope="module")
def outcomes():
    """Return what the harnesses report, run in another process because they fork."""
    code = "import json, agents.train, agents.training.trainer\n"
    code += "import matplotlib.pyplot, peft, reasoning_gym, torch_geometric  # each run is a fork\n"
    code += "from benchmarks.reliability import chaos, kills\n"
    code += f"together = lambda world: [chaos.EVENTS[name].happens(world) for name in {EVENTS}]\n"
    code += "chaos.EVENTS['together'] = chaos.Event(together)\n"
    code += "print(json.dumps([kills.family('reason_tree, ppo', 2, 1), chaos.chaos('together')]))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@needs_linux
@pytest.mark.slow
def test_killed_run_continues_bit_for_bit(outcomes):
    result = outcomes[0]
    assert result["bad"] == []
    assert result["SIGKILL"] + result["SIGTERM"] > 0


@needs_linux
@pytest.mark.slow
def test_run_survives_its_surroundings(outcomes):
    assert outcomes[1]["bad"] == []
