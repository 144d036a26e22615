"""What happens to a run when its surroundings fail: the outcome of each event, compared with the promised one.

    python -m benchmarks.reliability.chaos

Each event happens after the second step of a run. The run goes on, or ends with the promised status and one message.
Continued with ``resume=`` after the event is over, its metrics and weights must equal, bit for bit, those of a run
without an event.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.reliability.common import ROOT, measure, options
from benchmarks.reliability.kills import GROUPS, RUN, WORDS, ended, result, start

MATH = ("env=single_turn_math", "algo=grpo", *WORDS, *GROUPS)
CODE = ("env=petting_code", "algo=grpo", *WORDS, *GROUPS, "env.max_turns=1", "env.sandbox=native")
TOOL = ("env=petting_math", "algo=at_grpo", *WORDS, *GROUPS, "env.max_turns=1")
SERVED = ("env=workflow", "algo=grpo", *WORDS, *GROUPS)
STEPS = "steps=8"
SERVER = """import os, threading
from openai_server import Server
opened = Server(int(os.environ["PORT"]))
print(opened.url, flush=True)
threading.Event().wait()
"""


@dataclass
class World:
    """A running run and its surroundings."""

    pid: int
    folder: Path
    server: subprocess.Popen[str] | None = None

    def children(self, text: str) -> list[int]:
        """Return the processes below the run whose command line contains a text."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, IndexError):
                session = int(status.read_text().rpartition(")")[2].split()[1])
                command = status.with_name("cmdline").read_bytes().decode(errors="replace")
                if text in command and (session == self.pid or self._is_below(session)):
                    found.append(int(status.parent.name))
        return found

    def _is_below(self, pid: int) -> bool:
        while pid > 1:
            if pid == self.pid:
                return True
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        return False


def stop_and_go(world: World) -> None:
    """Stop the run and let it go on, three times."""
    for _ in range(3):
        os.kill(world.pid, signal.SIGSTOP)
        time.sleep(1.0)
        os.kill(world.pid, signal.SIGCONT)
        time.sleep(0.2)


def kill_children(text: str, world: World) -> None:
    """Kill helper processes of the run, several times."""
    for _ in range(20):
        for pid in world.children(text):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def remove(pattern: str, world: World) -> None:
    """Remove parts of the run's folder, or all of it."""
    for path in world.folder.parent.glob(pattern):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def fill_disk(world: World) -> None:
    """Fill the file system of the run's folder until the run has ended."""
    with contextlib.suppress(OSError), (world.folder.parent / "filler").open("wb") as file:
        while True:
            file.write(bytes(1 << 16))
            file.flush()


def end_server(world: World) -> None:
    """End the server of the run's executor."""
    assert world.server is not None
    world.server.kill()


@dataclass
class Event:
    """An event and the promised outcome."""

    happens: Callable[[World], None]
    arguments: tuple[str, ...] = MATH
    statuses: tuple[int, ...] = (0,)
    """Exit statuses that are promised."""
    says: str = ""
    """Text that the run must print if it ends."""
    outcome: str = "goes on"
    """The promise, for the table."""
    equal: bool = True
    """Whether the run, continued if it ended, equals one without the event."""
    disk_mb: int = 0
    """Size of a file system for the run alone. 0: it shares one."""


EVENTS = {
    "SIGSTOP, SIGCONT": Event(stop_and_go),
    "SIGHUP (the terminal is closed)": Event(
        lambda world: os.kill(world.pid, signal.SIGHUP),
        statuses=(-signal.SIGHUP,),
        outcome="ends; continues from the last checkpoint",
    ),
    "servers of the native sandbox are killed": Event(partial(kill_children, "serve(run_program)"), CODE),
    "interpreters of the sandbox monty are killed": Event(partial(kill_children, "monty"), TOOL),
    "workers of the grader are killed": Event(partial(kill_children, "spawn_main")),
    "the clock is set back a day": Event(lambda world: os.kill(world.pid, signal.SIGUSR1)),
    "train.log is removed": Event(partial(remove, "run/train.log")),
    "checkpoints are removed": Event(partial(remove, "run/checkpoints/step_*")),
    "the folder is removed": Event(
        partial(remove, "run"), statuses=(0, 2), says="", outcome="goes on, or ends with a message", equal=False
    ),
    "the disk is full, then freed": Event(
        fill_disk, statuses=(2,), says="No space left on device", outcome="ends with a message; continues", disk_mb=300
    ),
    "the server of the executor ends, then comes back": Event(
        end_server, SERVED, statuses=(2,), says="the connection failed", outcome="ends with a message; continues"
    ),
}  # fmt: skip


def serve(port: int = 0) -> tuple[subprocess.Popen[str], str]:
    """Start a server of an executor that always writes the same."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'toys'}", "PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@contextlib.contextmanager
def place(disk_mb: int) -> Any:
    """Yield a folder, on a separate file system if a size is given, which only root can create."""
    folder = Path(tempfile.mkdtemp(prefix="chaos_"))
    if disk_mb:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={disk_mb}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        if disk_mb:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def two_steps(folder: Path) -> bool:
    """Return whether two steps are logged and the checkpoint of the second or a later one is complete."""
    with contextlib.suppress(OSError):
        logged = sum('"loss"' in line for line in (folder / "metrics.jsonl").read_text().splitlines())
        saved = [int(path.name[5:]) for path in (folder / "checkpoints").glob("step_*") if path.name[5:].isdigit()]
        return logged >= 2 and max(saved, default=0) >= 2
    return False


@functools.cache
def calm(command: tuple[str, ...]) -> dict[str, Any] | str:
    """Train without an event; return what must be equal, or the end of the log if the run failed."""
    with place(0) as folder:
        if status := ended(start([*command, f"output_dir={folder / 'run'}"], folder / "log"), 300):
            return f"{status} {(folder / 'log').read_text()[-300:]}"
        return result(folder / "run")


def chaos(name: str) -> dict[str, Any]:
    """Train with an event; return the results."""
    event, bad = EVENTS[name], []
    with place(0) as beside, place(event.disk_mb) as stormy:
        server, url = serve() if event.arguments is SERVED else (None, "")
        served = [f"env.engine={{name: openai, model: served, base_url: '{url}', max_retries: 0}}"] if url else []
        command = (*event.arguments, *RUN, STEPS, *served)
        expected = calm(command)
        if isinstance(expected, str):
            return {"outcome": "", "bad": [f"without an event: {expected}"]}
        folder, log = stormy / "run", beside / "log"
        pid = start([*command, f"output_dir={folder}"], log)
        status = None
        while status is None and not two_steps(folder):
            status = ended(pid, 0.02)
        if status is None:  # else it failed before the event
            event.happens(World(pid, folder, server))
            status = ended(pid, 300)
        text = log.read_text()
        if status not in event.statuses or (status and event.says not in text) or "Traceback" in text:
            bad.append(f"status {status}: {text[-600:]}")
        (stormy / "filler").unlink(missing_ok=True)
        if event.arguments is SERVED:
            server, _ = serve(int(url.split(":")[2].split("/")[0]))
        if status and event.equal and not bad:
            status = ended(start([f"resume={folder}"], log), 300)
            bad += [f"resumed: status {status}: {log.read_text()[-600:]}"] if status else []
        if event.equal and not bad and expected != result(folder):
            bad.append("the metrics or weights differ")
        if server:
            server.kill()
    return {"outcome": event.outcome, "equal afterwards": "yes" if event.equal else "-", "bad": bad}


def main() -> int:
    """Let every event happen."""
    from agents import train  # noqa: F401  (before the first fork)
    from agents.training import trainer  # noqa: F401

    given = options(__doc__)
    return measure("chaos", given.seed, {name: partial(chaos, name) for name in EVENTS})


if __name__ == "__main__":
    sys.exit(main())
