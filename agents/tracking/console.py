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
            # Terminals of some containers report 0 columns or 0 lines. tqdm would then show no bar.
            columns, lines = os.get_terminal_size(sys.stdout.fileno())
            fixed = {"ncols": columns or UNKNOWN_WIDTH, "nrows": 2}
            size: dict[str, Any] = {"dynamic_ncols": True} if columns and lines else fixed
            self._bar = tqdm(total=self.total_steps, file=sys.stdout, bar_format=form, **size)

    def begin_at(self, step: int) -> None:
        """Set the bar of a resumed run to ``step``."""
        if self._bar is not None:
            self._bar.initial = self._bar.n = step
            self._bar.refresh()

    def step(self, step: int, row: Mapping[str, float | None]) -> None:
        """Show the metrics of a finished training step."""
        duration = row.get("time/step")
        if duration is not None:
            self._durations = [*self._durations[1 - RECENT :], duration]
        if self._bar is not None:
            self._bar.set_postfix_str("  ".join(_fields(row)), refresh=False)
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
    accuracy = row.get("eval/accuracy")
    if accuracy is None:
        return None
    text = f"held-out after step {row['step']}: accuracy {accuracy:.1%}"
    low, high, greedy = (row.get(f"eval/{name}") for name in ("accuracy_low", "accuracy_high", "greedy_accuracy"))
    if low is not None and high is not None:
        text += f" [{low:.1%}, {high:.1%}]"
    return text if greedy is None else f"{text}, greedy {greedy:.1%}"


def _fields(row: Mapping[str, float | None]) -> list[str]:
    return [form.format(value) for name, form in SHOWN["progress"] if (value := row.get(name)) is not None]
