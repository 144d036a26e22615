"""Progress of a run on standard output: a bar on a terminal, otherwise about twenty lines."""

import os
import sys
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from tqdm import tqdm

from agents.tracking.metrics_file import SHOWN
from reason_envs.errors import printable

PLAIN_LINES = 20
"""Approximate number of progress lines of a run if standard output is not a terminal."""
RECENT = 20
"""Number of last steps whose mean duration predicts the remaining time."""
UNKNOWN_WIDTH = 120
"""Columns of the progress bar if the terminal reports none."""


class Console:
    """Progress of a run of ``total_steps`` training steps on standard output."""

    def __init__(self, total_steps: int) -> None:
        self.total_steps = total_steps
        self._durations: list[float] = []
        self._every = max(1, total_steps // PLAIN_LINES)
        self._shown_any = False
        self._bar: tqdm[Any] | None = None

    def open(self) -> None:
        """Show the progress bar if standard output is a terminal."""
        if sys.stdout.isatty():
            form = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps, {remaining} left{postfix}"
            # nrows: some containers' terminals report 0 lines, and tqdm would show no bar.
            self._bar = tqdm(total=self.total_steps, file=sys.stdout, bar_format=form, ncols=_columns(), nrows=2)

    def begin_at(self, step: int) -> None:
        """Set the bar of a resumed run to ``step``."""
        if self._bar is not None:
            self._bar.initial = self._bar.n = step
            self._bar.refresh()

    def step(self, step: int, row: Mapping[str, float | None]) -> None:
        """Show the metrics of a finished training step."""
        if (duration := row.get("time/step")) is not None:
            self._durations = [*self._durations[1 - RECENT :], duration]
        if self._bar is not None:
            self._bar.ncols, fields = _columns(), _fields(row)
            while fields and len("  ".join(fields)) > self._bar.ncols - 33 - 2 * len(str(self.total_steps)):
                fields.pop()  # tqdm would cut a number
            self._bar.set_postfix_str("  ".join(fields), refresh=False)
            self._bar.update(step - self._bar.n)
        elif not self._shown_any or step % self._every == 0 or step == self.total_steps:
            self._shown_any = True
            left = self.total_steps - step
            time_left = [f"{fmean(self._durations) * left:,.0f} s left"] if self._durations and left else []
            self.write(f"step {step}/{self.total_steps}  " + "  ".join([*_fields(row), *time_left]))

    def status(self, text: str) -> None:
        """Show the current phase beside the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(text)

    def write(self, text: str) -> None:
        """Print text above the bar, with escapes in place of control characters."""
        tqdm.write(printable(text), file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        """Close the bar. It stays on the screen."""
        if self._bar is not None:
            self._bar.close()


def evaluation_text(row: Mapping[str, float | None]) -> str | None:
    """Write the held-out metrics of a row on one line; return ``None`` if it has none."""
    if (accuracy := row.get("eval/accuracy")) is None:
        return None
    text = f"held-out after step {row['step']}: accuracy {accuracy:.1%}"
    low, high, greedy = (row.get(f"eval/{name}") for name in ("accuracy_low", "accuracy_high", "greedy_accuracy"))
    if low is not None and high is not None:
        text += f" [{low:.1%}, {high:.1%}]"
    return text if greedy is None else f"{text}, greedy {greedy:.1%}"


def _columns() -> int:
    """Return the width of the terminal."""
    return os.get_terminal_size(sys.stdout.fileno()).columns or UNKNOWN_WIDTH


def _fields(row: Mapping[str, float | None]) -> list[str]:
    return [form.format(value) for name, form in SHOWN["progress"] if (value := row.get(name)) is not None]
