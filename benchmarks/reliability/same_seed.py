"""Does a run with the same seed repeat bit for bit, with several threads, too?

    OMP_NUM_THREADS=2 python -m benchmarks.reliability.same_seed --runs 100 env=single_turn_math steps=4

It trains the same run again and again in one process, where the addresses of tensors differ each time. It prints the
number of different results and the seconds of a run. Two results differ if any metric differs in any digit. The times
and the memory are not compared. The exit status is 1 if results differ.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from agents.config.command_line import report_errors
from agents.config.compose import compose_config
from agents.train import train

NOT_COMPARED = ("time/", "memory/")
QUIET = ("eval_every=0", "save_every=0")


def metrics(options: Sequence[str]) -> str:
    """Train a run and return its metrics as one text."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        train(compose_config([*QUIET, *options, f"output_dir={folder}/run"]))
        rows = map(json.loads, (Path(folder) / "run/metrics.jsonl").read_text().splitlines())
        return json.dumps([{k: v for k, v in row.items() if not k.startswith(NOT_COMPARED)} for row in rows])


def main() -> None:
    """Repeat a run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="number of runs (default 100)")
    parser.add_argument("options", nargs="*", help="options of python -m agents.train")
    arguments = parser.parse_args()
    found: Counter[str] = Counter()
    seconds = []
    for number in range(arguments.runs):
        started = time.perf_counter()
        found[metrics(arguments.options)] += 1
        seconds.append(time.perf_counter() - started)
        print(f"{number + 1} of {arguments.runs} runs, {len(found)} different results", flush=True)
    print(f"{len(found)} different results of {arguments.runs} runs, {median(seconds):.1f} s per run")
    sys.exit(len(found) > 1)


if __name__ == "__main__":
    with report_errors():
        main()
