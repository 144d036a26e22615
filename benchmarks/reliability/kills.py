"""Runs that are killed at random moments and resumed, compared bit for bit with runs that nobody killed.

    python -m benchmarks.reliability.kills                      # every family
    python -m benchmarks.reliability.kills --families 2 --kills 1

Each run is a fork of this process, which has imported everything. SIGKILL ends it at once; after SIGTERM it must save
and exit with the status 143 in ``STOP_SECONDS``. Two learners are started by torchrun, whose status is 1 if a signal
ends it or one of them; SIGKILL ends one of them, or all processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.reliability.common import measure, options

os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "1073741824")  # else the command restarts itself to set it
RUN = ("steps=4", "save_every=1", "eval_every=2", "eval_tasks=2", "env.tasks.size=8", "policy.device=cpu", "seed=5")
TREE = ("env.max_depth=3", "env.max_nodes=8", "env.max_steps=4", "env.max_step_tokens=8")
GROUPS = ("algo.tasks_per_step=2", "algo.samples_per_task=2", "algo.minibatch_size=null")
SB3 = ("algo.n_envs=4", "algo.n_steps=8", "algo.batch_size=16", "algo.n_epochs=1")
WORDS = ("policy=language", "policy.max_tokens=8")
GRAPH = ("policy=graph", "policy.channels=8")
FAMILIES = {
    "single_turn_math, grpo": (*WORDS, *GROUPS),
    "reason_tree, ppo": (*GRAPH, *GROUPS, *TREE),
    "petting_plan_path, at_grpo": (*WORDS, *GROUPS, "env.max_turns=1"),
    "workflow, grpo": (*WORDS, *GROUPS, "env.executor_max_tokens=8"),
    "petting_math, at_grpo": (*WORDS, *GROUPS, "env.max_turns=1", "policy.lora_rank=4", "policy.sharing=lora_per_role"),
    "reason_tree, sb3_maskable_ppo": (*GRAPH, *SB3, *TREE),
    "planner_solver, ppo": (*WORDS, *GROUPS, "env.solver_max_tokens=8"),
    "reason_tree_paper, grpo": (*GRAPH, *GROUPS, *TREE),
    "petting_code, grpo": (*WORDS, *GROUPS, "env.max_turns=1"),
    "petting_sokoban, ppo": (*WORDS, *GROUPS, "env.max_turns=1"),
    "petting_sudoku, at_grpo": (*WORDS, *GROUPS, "env.max_turns=1"),
    "single_turn_math, grpo, two learners": (*WORDS, *GROUPS),
}
"""Options of a short run per environment and algorithm."""
STOP_SECONDS = 120.0
"""Time in seconds in which a run must end after SIGTERM."""


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "agents.train"]


def start(arguments: list[str], log: Path, torchrun: bool = False) -> int:
    """Train in a fork of this process, or with torchrun; return its process id."""
    from agents import train

    sys.stdout.flush()
    if pid := os.fork():
        return pid
    status = 70
    try:
        os.setsid()
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (1, 2):
            os.dup2(file, stream)
        if torchrun:
            os.execv(sys.executable, [*TORCHRUN, *arguments])
        sys.argv = ["train", *arguments]
        signal.signal(signal.SIGUSR1, lambda *_: _set_clock_back())
        train.main()
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException:  # noqa: BLE001
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def _set_clock_back() -> None:
    """Set the wall clock of this process back a day; ``chaos`` sends the signal."""
    real = time.time
    time.time = lambda: real() - 86_400


def ended(pid: int, seconds: float) -> int | None:
    """Return the exit status of a process that ends in time, negative for a signal; otherwise ``None``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def send(pid: int, number: int, draw: random.Random) -> None:
    """Send a signal to a run. SIGKILL ends one of several learners, or all processes."""
    learners = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            if int(file.read_text().rpartition(")")[2].split()[1]) == pid:
                learners += [int(file.parent.name)] if b"agents.train" in (file.parent / "cmdline").read_bytes() else []
    one = bool(learners) and draw.random() < 0.5
    for each in [draw.choice(learners)] if one and number == signal.SIGKILL else [pid, *learners]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, number)


def result(folder: Path) -> dict[str, Any]:
    """Return what must be equal: the metrics that do not depend on the machine, and a digest of the final weights."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [{k: v for k, v in line.items() if not k.startswith(("time/", "memory/"))} for line in lines]
    files = sorted((folder / "policy_final").rglob("*.safetensors"))
    return {"rows": rows, "weights": [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]}


def arguments(name: str, folder: Path) -> list[str]:
    """Return the command line that starts, or continues, the run in a folder."""
    if any((folder / "checkpoints").glob("step_*")):
        return [f"resume={folder}"]
    environment, algorithm, *_ = name.split(", ")
    return [f"env={environment}", f"algo={algorithm}", *RUN, *FAMILIES[name], f"output_dir={folder}"]


def family(name: str, kills: int, seed: int) -> dict[str, Any]:
    """Train once without and once with signals; return the results."""
    torchrun = name.endswith("two learners")
    draw, bad, sent, whole_seconds = random.Random(f"{seed} {name}"), [], [], 0.0
    place = Path(tempfile.mkdtemp(prefix="kills_"))
    whole, killed, log = place / "whole", place / "killed", place / "log"
    began = time.monotonic()
    if (status := ended(start(arguments(name, whole), log, torchrun), 500)) != 0:
        return {"kills": 0, "bad": [f"the run without signals ended with {status}: {log.read_text()[-500:]}"]}
    whole_seconds = time.monotonic() - began
    status: int | None = -1
    while status != 0 and not bad:
        pid = start(arguments(name, killed), log, torchrun)
        status = ended(pid, draw.uniform(0.0, 0.8 * whole_seconds) if len(sent) < kills else 500)
        if status is None:
            number = draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
            send(pid, number, draw)
            status = ended(pid, STOP_SECONDS)
            sent.append(number)
            if status not in (0, -number, 128 + number, int(torchrun)):
                bad.append(f"after {signal.Signals(number).name} the status is {status}: {log.read_text()[-500:]}")
        elif status != 0:
            bad.append(f"the resumed run ended with {status}: {log.read_text()[-500:]}")
    if not bad and result(whole) != result(killed):
        bad.append("the metrics or weights differ")
    if not bad:
        shutil.rmtree(place)
    return {"SIGKILL": sent.count(signal.SIGKILL), "SIGTERM": sent.count(signal.SIGTERM), "bad": bad}


def main() -> int:
    """Kill runs of every family."""
    from agents import train  # noqa: F401  (before the first fork)
    from agents.training import trainer  # noqa: F401

    given = options(__doc__, kills=4, families=len(FAMILIES))
    chosen = list(FAMILIES)[: given.families]
    return measure("kills", given.seed, {name: partial(family, name, given.kills, given.seed) for name in chosen})


if __name__ == "__main__":
    sys.exit(main())
