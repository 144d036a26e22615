"""Plot of the curves of a run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from agents.tracking.metrics_file import SHOWN, Row, series

TRAIN, HELD_OUT, GREEDY = "#3b6fb6", "#d1603d", "#8a4fa3"
SMOOTHED_FROM = 20
"""Minimum number of points for a rolling mean."""


def plot_curves(rows: Sequence[Row], path: Path, title: str = "") -> None:
    """Plot accuracy, reward, length, loss, entropy and KL over the training steps, as a PNG file.

    Training curves are faint, with a rolling mean on top. Held-out accuracy has its confidence band. The global state
    of matplotlib does not change.
    """
    recorded = {
        name: [found for metric in metrics if (found := series(rows, metric))[1]] for name, metrics in SHOWN["panels"]
    }
    held_out = any(row.get("eval/accuracy") is not None for row in rows)
    panels = [name for name in recorded if recorded[name] or (held_out and name == "Accuracy")]
    columns, lines = min(len(panels), 3) or 1, -(-len(panels) // 3) or 1
    figure = Figure(figsize=(4 * columns, 0.4 + 3 * lines), dpi=110, layout="constrained")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    for place, name in enumerate(panels):
        axes = figure.add_subplot(lines, columns, place + 1)
        _frame(axes, name, labelled=place + columns >= len(panels))
        if recorded[name]:
            _draw_training(axes, *recorded[name][0])
        if name == "Accuracy":
            _draw_held_out(axes, rows)
    figure.savefig(path)


def rolling_mean(values: Sequence[float]) -> np.ndarray:
    """Return the mean over a centred window of a tenth of the points. At both ends the window is shorter."""
    half = max(1, len(values) // 20)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    centre = np.arange(len(values))
    start, stop = np.maximum(0, centre - half), np.minimum(len(values), centre + half + 1)
    return (sums[stop] - sums[start]) / (stop - start)


def _frame(axes: Axes, name: str, *, labelled: bool) -> None:
    axes.set_title(name, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, color="#888888")
    axes.locator_params(axis="x", integer=True)
    if labelled:
        axes.set_xlabel("training step", fontsize=9)


def _draw_training(axes: Axes, steps: list[float], values: list[float]) -> None:
    if len(values) < SMOOTHED_FROM:
        axes.plot(steps, values, color=TRAIN, linewidth=1.8, marker="o", markersize=3, label="training")
        return
    axes.plot(steps, values, color=TRAIN, linewidth=0.8, alpha=0.3)
    axes.plot(steps, rolling_mean(values), color=TRAIN, linewidth=2.0, label="training")


def _draw_held_out(axes: Axes, rows: Sequence[Row]) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    banded = [row for row in rows if row.get("eval/accuracy_low") is not None]
    if banded:
        steps, low = series(banded, "eval/accuracy_low")
        axes.fill_between(steps, low, series(banded, "eval/accuracy_high")[1], color=HELD_OUT, alpha=0.18, linewidth=0)
    for metric, label, color, style in (
        ("eval/accuracy", "held-out", HELD_OUT, "-"),
        ("eval/greedy_accuracy", "held-out, greedy", GREEDY, "--"),
    ):
        steps, values = series(rows, metric)
        if values:
            axes.plot(steps, values, style, color=color, linewidth=1.8, marker="o", markersize=4, label=label)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9, loc="best")
