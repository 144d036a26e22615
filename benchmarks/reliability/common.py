"""What the reliability harnesses share: options, cells that are resumed, and the tables in ``RELIABILITY.md``."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = HERE.parent / "RELIABILITY.md"


def options(doc: str, **defaults: int) -> argparse.Namespace:
    """Read the command line: ``--seed`` and further whole numbers."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"seed": 0, **defaults}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="(default %(default)s)")
    return parser.parse_args()


def measure(name: str, seed: int, cells: Mapping[str, Callable[[], dict[str, Any]]]) -> int:
    """Run the cells that have no result yet, and write all results as a table into the page.

    A cell returns its results; ``bad`` lists what must not happen. Results of earlier calls, also by other users, are
    kept in ``results/NAME-SEED.json``: delete it to measure again.

    Returns:
        1 if a cell has entries under ``bad``, else 0.
    """
    path = HERE / "results" / f"{name}-{seed}.json"
    path.parent.mkdir(exist_ok=True)
    results = json.loads(path.read_text()) if path.exists() else {}
    for cell in (cell for cell in cells if cell not in results):
        start = time.monotonic()
        results[cell] = {**cells[cell](), "seconds": round(time.monotonic() - start, 1)}
        path.write_text(json.dumps(results, indent=1, default=str) + "\n")
        print(cell, results[cell], flush=True)
    _write_section(name, seed, results)
    return int(any(results[cell]["bad"] for cell in cells))


def _write_section(name: str, seed: int, rows: Mapping[str, Mapping[str, Any]]) -> None:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [f"| {' | '.join(['', *columns])} |", f"|{'---|' * (1 + len(columns))}"]
    for cell, row in rows.items():
        values = [len(row[c]) if c == "bad" else row.get(c, "") for c in columns]
        lines.append(f"| {cell} | {' | '.join(map(str, values))} |")
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = PAGE.read_text()
    head, rest = text.split(begin)
    command = f"`python -m benchmarks.reliability.{name} --seed {seed}`"
    table = "\n".join(lines)
    PAGE.write_text(f"{head}{begin}\n{command}\n\n{table}\n{end}{rest.split(end)[1]}")
