"""A run's metrics on disk: one JSON object a line, and the same as an aligned table for the eye."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from reason_envs.errors import ReasonEnvsError

Row = dict[str, float | None]
"""One line: ``step`` and metrics by name; ``None`` where a metric was not finite."""

_log = logging.getLogger(__name__)


class MetricsFile:
    """``metrics.jsonl``: appended to line by line, cut back when a run resumes.

    Args:
        path: the file; made at the first line. One that already holds lines is only continued after ``keep_until``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        self._claimed = False

    def keep_until(self, step: int) -> None:
        """Continue an existing file from a checkpoint at ``step``, as if nothing had been written after it.

        Later lines are dropped, and so is an evaluation that followed the checkpoint at the same step.
        """
        rows = read_rows(self.path)
        self.rows = [row for row in rows if _step(row) < step or (_step(row) == step and not _is_evaluation(row))]
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(map(_line, self.rows)), encoding="utf-8")
        partial.replace(self.path)
        self._claimed = True

    def append(self, step: int, metrics: Mapping[str, float]) -> Row:
        """Write one line.

        Raises:
            ReasonEnvsError: the file holds another run's lines.
        """
        if not self._claimed and self.path.exists() and self.path.stat().st_size:
            raise ReasonEnvsError(f"{self.path} holds a run already: resume it, or choose another output_dir.")
        self._claimed = True
        row: Row = {"step": step}
        for name, value in metrics.items():
            row[name] = value if math.isfinite(value) else None
            if row[name] is None:
                _log.warning("step %d: %s is %s (written as null)", step, name, value)
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(row))
        return row


@dataclass(frozen=True)
class Column:
    """A column of ``summary.log``."""

    metric: str
    """Its name in ``metrics.jsonl``."""
    title: str
    """What stands above it."""
    form: str
    """Format of a value."""

    @property
    def width(self) -> int:
        """Characters it takes."""
        return max(len(self.title), 8)

    def cell(self, row: Mapping[str, float | None]) -> str:
        """The value, right-aligned; ``-`` where the row has none."""
        value = row.get(self.metric)
        return f"{'-' if value is None else format(value, self.form):>{self.width}}"


SUMMARY_COLUMNS = (
    Column("step", "step", ".0f"),
    Column("reward", "reward", ".3f"),
    Column("accuracy", "accuracy", ".1%"),
    Column("eval/accuracy", "held-out", ".1%"),
    Column("eval/greedy_accuracy", "greedy", ".1%"),
    Column("loss", "loss", ".4f"),
    Column("kl", "kl", ".5f"),
    Column("entropy", "entropy", ".3f"),
    Column("response_length", "length", ".1f"),
    Column("frac_no_answer", "no answer", ".1%"),
    Column("frac_zero_std", "zero std", ".1%"),
    Column("clip_frac", "clipped", ".2%"),
    Column("grad_norm", "grad norm", ".3f"),
    Column("time/tokens_per_second", "tokens/s", ",.0f"),
    Column("memory/peak_mb", "peak MB", ",.0f"),
)


def summary_header() -> str:
    """The titles of ``summary.log``."""
    return "  ".join(f"{column.title:>{column.width}}" for column in SUMMARY_COLUMNS)


def summary_line(row: Mapping[str, float | None]) -> str:
    """One line of ``summary.log``."""
    return "  ".join(column.cell(row) for column in SUMMARY_COLUMNS)


CANDIDATES = "candidate_reward"
"""What only rows of turn trees have."""
CHOSEN = "In training, episodes go on from a chosen candidate of each turn; held out, one is drawn."
"""How to read reward and accuracy of such rows."""
TABLE_ROWS = (
    ("reward", "reward", ".3f"),
    ("accuracy", "accuracy in training", ".1%"),
    ("eval/accuracy", "accuracy held out", ".1%"),
    ("eval/greedy_accuracy", "accuracy held out, greedy", ".1%"),
    ("frac_no_answer", "no answer", ".1%"),
    ("response_length", "response length", ".1f"),
    ("episode/generated_tokens", "tokens in the environment", ".1f"),
    ("entropy", "entropy", ".3f"),
    ("kl", "KL", ".5f"),
)


def final_table(rows: Sequence[Row]) -> str:
    """The run at a glance: means over its first and last tenth of steps, evaluations before and after."""
    lines = [f"{'':28}{'first':>10}{'last':>10}"]
    for metric, title, form in TABLE_ROWS:
        _, values = series(rows, metric)
        if values:
            tenth = 1 if metric.startswith("eval/") else max(1, len(values) // 10)
            first, last = fmean(values[:tenth]), fmean(values[-tenth:])
            lines.append(f"{title:<28}{format(first, form):>10}{format(last, form):>10}")
    totals = {metric: series(rows, metric)[1] for metric in ("time/step", "tokens", "memory/peak_mb")}
    if len(totals["time/step"]) >= 20:
        lines.append("Of training: means over the first and the last tenth of the steps.")
    if any(CANDIDATES in row for row in rows):
        lines.append(CHOSEN)
    if all(totals.values()):
        lines.append(
            f"{len(totals['time/step'])} steps in {sum(totals['time/step']):,.0f} s (evaluations apart), "
            f"{totals['tokens'][-1]:,.0f} tokens generated, peak memory {max(totals['memory/peak_mb']):,.0f} MB"
        )
    return "\n".join(lines)


def series(rows: Sequence[Row], metric: str) -> tuple[list[float], list[float]]:
    """Return the steps and values of a metric, where rows have it."""
    pairs = [(_step(row), value) for row in rows if (value := row.get(metric)) is not None]
    return [step for step, _ in pairs], [value for _, value in pairs]


def read_rows(path: Path) -> list[Row]:
    """Return the lines of a file, none where there is no file; a last one that was cut off is left out.

    Raises:
        ReasonEnvsError: a line is no JSON.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            # Only a write that was cut off leaves a last line without an end.
            break
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ReasonEnvsError(
                f"{path}, line {number} is no JSON object ({error}): mend or delete the line."
            ) from error
    return rows


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _step(row: Row) -> float:
    step = row["step"]
    assert step is not None
    return step


def _is_evaluation(row: Row) -> bool:
    return all(name == "step" or name.startswith("eval/") for name in row)
