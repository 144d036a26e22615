"""Metrics of a run on disk: ``metrics.jsonl`` (one JSON object per line), ``summary.log`` and the final table."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from reason_envs.errors import reading
from reason_envs.resources import read_table, replace_file

Row = dict[str, float | None]
"""One line of the file: ``step``, and metrics by name. ``None`` means that the value was not finite."""

SHOWN = read_table(__file__, "shown.yaml")
"""Metrics that a run shows, and where. The file explains its parts."""

_log = logging.getLogger(__name__)


class MetricsFile:
    """The file ``metrics.jsonl``, to which lines are appended. It is created with the first line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []

    def keep_until(self, step: float) -> None:
        """Continue an existing file from a checkpoint at ``step``.

        Lines of later steps are deleted, and a separate evaluation at this step, because the resumed run repeats it.
        """
        rows = [row for row in read_rows(self.path) if _step(row) <= step]
        self.rows = [row for row in rows if _step(row) < step or {n.partition("/")[0] for n in row} - {"step", "eval"}]
        replace_file(self.path, "".join(map(_line, self.rows)))

    def append(self, step: int, metrics: Mapping[str, float]) -> Row:
        """Write one line."""
        row: Row = {"step": step}
        for name, value in metrics.items():
            row[name] = value if math.isfinite(value) else None
            if row[name] is None:
                _log.warning("step %d: %s is %s (written as null)", step, name, value)
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(row))
        return row


def summary_header() -> str:
    """Write the header of ``summary.log``."""
    return "  ".join(f"{title:>8}" for _, title, _ in SHOWN["summary"])


def summary_line(row: Mapping[str, float | None]) -> str:
    """Write a row as a line of ``summary.log``; ``-`` stands for metrics that it does not have."""
    values = [(title, row.get(metric), form) for metric, title, form in SHOWN["summary"]]
    return "  ".join(f"{'-' if v is None else format(v, form):>{max(len(title), 8)}}" for title, v, form in values)


CANDIDATES = "candidate_reward"
"""Metric that only algorithms with several candidates per turn record."""
CHOSEN = "In training, each turn continues from a selected candidate. In evaluations, each turn has one response."
"""Explanation of reward and accuracy for algorithms with several candidates per turn."""


def final_table(rows: Sequence[Row]) -> str:
    """Write a table of the beginning and the end of a run.

    It shows means over the first and the last tenth of the steps, and the first and the last evaluation.
    """
    lines = [f"{'':28}{'first':>10}{'last':>10}"]
    for metric, title, form in SHOWN["table"]:
        _, values = series(rows, metric)
        if values:
            tenth = 1 if metric.startswith("eval/") else max(1, len(values) // 10)
            first, last = fmean(values[:tenth]), fmean(values[-tenth:])
            lines.append(f"{title:<28}{format(first, form):>10}{format(last, form):>10}")
    totals = {metric: series(rows, metric)[1] for metric in ("time/step", "tokens", "memory/peak_mb")}
    if len(totals["time/step"]) >= 20:
        lines.append("Training metrics are means over the first and the last tenth of the steps.")
    if any(CANDIDATES in row for row in rows):
        lines.append(CHOSEN)
    if all(totals.values()):
        lines.append(
            f"{len(totals['time/step'])} steps in {sum(totals['time/step']):,.0f} s without evaluations, "
            f"{totals['tokens'][-1]:,.0f} tokens generated, peak memory {max(totals['memory/peak_mb']):,.0f} MB"
        )
    return "\n".join(lines)


def series(rows: Sequence[Row], metric: str) -> tuple[list[float], list[float]]:
    """Return the steps and values of the rows that have a metric."""
    pairs = [(_step(row), value) for row in rows if (value := row.get(metric)) is not None]
    return [step for step, _ in pairs], [value for _, value in pairs]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file. The list is empty if the file does not exist. An incomplete last line is left out."""
    if not path.exists():
        return []
    with reading(path, "Restore or delete it."):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            # A process that ended while it wrote leaves a last line without a line end.
            break
        with reading(f"{path}, line {number},", "It must be a JSON object with numbers: fix or delete the line."):
            row = json.loads(line)
            if (
                not all(value is None or isinstance(value, int | float) for value in row.values())
                or row["step"] is None
            ):
                raise TypeError("a value is not a number")
            rows.append(row)
    return rows


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _step(row: Row) -> float:
    step = row["step"]
    assert step is not None
    return step
