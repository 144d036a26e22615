"""Plot of accuracy against generated tokens: one curve per method over its budgets."""

from collections.abc import Sequence
from pathlib import Path

from agents.search.results import MethodResult

COLOURS = (
    *("#3b6fb6", "#d1603d", "#4a9a5b", "#8a4fa3", "#b8892b", "#3a9fa8", "#c4568f"),
    *("#6b6b6b", "#8fb339", "#7a4a2b", "#5a5ad1", "#111111", "#e0a3a3", "#9ec5e8"),
)
MARKERS = "osD^vP*Xd"


def plot_frontier(results: Sequence[MethodResult], path: Path, title: str = "") -> None:
    """Plot the accuracy of every method, with its interval, over the mean number of tokens per problem, as a PNG file.

    Results of the same ``method`` are connected in the order of their tokens.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    figure = Figure(figsize=(10.5, 5.6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for number, method in enumerate(dict.fromkeys(result.method for result in results)):
        points = sorted((r for r in results if r.method == method), key=lambda r: r.generated_tokens)
        axes.errorbar(
            [r.generated_tokens for r in points],
            [r.accuracy for r in points],
            yerr=[[r.accuracy - r.accuracy_low for r in points], [r.accuracy_high - r.accuracy for r in points]],
            label=method,
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            linestyle="-" if number < len(COLOURS) else "--",
            markersize=5,
            linewidth=1.5,
            elinewidth=0.9,
            capsize=2,
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: f"{tokens:g}"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set(xlabel="generated tokens per problem, with discarded ones (log scale)", ylabel="accuracy (95 % interval)")
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=9, loc="outside right upper")
    figure.savefig(path)
