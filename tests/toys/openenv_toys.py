"""Servers of environments in separate processes."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def start(*arguments, stderr=None, **environment):
    """Start a server on a free port. Returns its address and the process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "reason_envs.serve", *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS / 'toys'}", **environment},
    )
    line = process.stdout.readline()
    assert "Serving" in line, line
    return re.search(r"http://\S+", line)[0], process


@contextlib.contextmanager
def serving(*arguments, **environment):
    url, process = start(*arguments, **environment)
    try:
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(100) == 0
        process.stdout.close()
