"""Several ranks on one machine, forked from one process that has imported everything.

``python ranks.py train KEY=VALUE ...`` trains in two ranks; ``python ranks.py learners MODEL FOLDER`` runs the cases of
`sharded_toys`. Its status is the first rank's that is not 0.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import traceback
from pathlib import Path

RANKS = 2


def in_ranks(what, *arguments, timeout=240, **environment):
    """Run this file in a process; return its status and output. All of its processes end with it."""
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "4294967296", **environment}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__)), what, *map(str, arguments)],
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    return finish(process, timeout)


def finish(process, timeout=240):
    """Wait for a process; return its status and output. It and its children are killed after a time."""
    try:
        output, _ = process.communicate(timeout=timeout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
    return process.returncode, output


def _rank(number, port, what, arguments):
    local = (
        {"LOCAL_RANK": str(number), "LOCAL_WORLD_SIZE": str(RANKS)} if what == "train" else {"LOCAL_WORLD_SIZE": "1"}
    )
    os.environ |= {"RANK": str(number), "WORLD_SIZE": str(RANKS), **local}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if what == "train":
        from agents import train

        sys.argv = ["train", *arguments]
        train.main()
    else:  # hybrid: as if there were two nodes
        import sharded_toys

        sharded_toys.main(*arguments)


def main(what, *arguments):
    """Fork the ranks; return the first status that is not 0."""
    # Before the fork: what each rank would import again, some of it late.
    import bitsandbytes  # noqa: F401  (peft imports it, which takes longest)
    import peft  # noqa: F401
    import reasoning_gym  # noqa: F401
    import sharded_toys  # noqa: F401

    from agents import train  # noqa: F401
    from agents.training import trainer  # noqa: F401

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for number in range(RANKS):
        if not (pid := os.fork()):
            status = 70
            try:
                _rank(number, port, what, arguments)
                status = 0
            except SystemExit as end:
                status = int(end.code or 0)
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        children.append(pid)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    return next((status for status in statuses if status), 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
