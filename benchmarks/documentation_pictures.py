"""Draw the pictures of the README and of the documentation's first page into ``docs/assets``.

``python benchmarks/documentation_pictures.py`` needs no training: the results are read from the tables that the
scripts of ``benchmarks/learning`` wrote.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "docs" / "assets"
LEARNING = ROOT / "benchmarks" / "learning"

BLUE, GREEN, GREY, ORANGE, INK = "#2b7a9b", "#5b8c5a", "#9aa5ad", "#c8752d", "#26323a"
RESULTS = {
    "SingleTurnMath, GRPO": ("single_turn_math/table.md", "math", "random"),
    "SingleTurnMath, PPO": ("language_ppo/table.md", "math", "random"),
    "PlannerSolver, GRPO": ("planner_solver/table.md", "math", "random"),
    "WorkflowExecution, GRPO": ("workflow/table.md", "tiers", "random"),
    "PettingSudoku, AT-GRPO": ("petting/sudoku.md", "AT-GRPO, team", "AT-GRPO, paid by coin flips"),
}
"""Title of each row: its table, and the names of the trained arm and of the control in it."""

BOXES = {
    "environment": (0.5, 0.84, "Environment", "task, observations,\nrewards", GREEN),
    "decisions": (0.87, 0.62, "Decisions", "tokens, log-probs,\nrewards", BLUE),
    "advantages": (0.87, 0.28, "Advantages", "GRPO, AT-GRPO,\nPPO, yours", BLUE),
    "loss": (0.5, 0.12, "Loss", "clipped ratio, KL,\nvalue", BLUE),
    "policy": (0.13, 0.28, "Policy", "language model,\ngraph network", BLUE),
    "engine": (0.13, 0.62, "Engine", "transformers,\nvLLM", GREEN),
}
"""Position, title, contents and colour of each part of the loop."""
ARROWS = (
    ("environment", "decisions", ""),
    ("decisions", "advantages", ""),
    ("advantages", "loss", ""),
    ("loss", "policy", "gradient"),
    ("policy", "engine", "weights"),
    ("engine", "environment", "actions"),
)


def draw_loop(path: Path) -> None:
    """Draw the parts of a training run and what passes between them."""
    figure, axes = plt.subplots(figsize=(7.6, 4.2))
    for x, y, title, contents, colour in BOXES.values():
        box = FancyBboxPatch(
            (x - 0.115, y - 0.1), 0.23, 0.2, boxstyle="round,pad=0.01,rounding_size=0.03", fc=colour, ec="none"
        )
        axes.add_patch(box)
        axes.text(x, y + 0.048, title, color="white", weight="bold", size=11.5, ha="center", va="center")
        axes.text(x, y - 0.038, contents, color="white", size=8.5, ha="center", va="center", linespacing=1.15)
    for start, end, label in ARROWS:
        _arrow(axes, start, end, label)
    axes.text(0.5, 0.5, "one training step", color=INK, size=12, weight="bold", ha="center", va="center")
    axes.text(0.5, 0.43, "green: reason_envs      blue: agents", color=INK, size=9, ha="center", va="center")
    axes.set(xlim=(0, 1), ylim=(0, 0.97))
    axes.axis("off")
    figure.savefig(path, dpi=130, bbox_inches="tight", facecolor="white")
    plt.close(figure)


def _arrow(axes: Axes, start: str, end: str, label: str) -> None:
    (x0, y0), (x1, y1) = BOXES[start][:2], BOXES[end][:2]
    if x0 == x1:
        ends = ((x0, y0 + (0.115 if y1 > y0 else -0.115)), (x1, y1 + (-0.115 if y1 > y0 else 0.115)))
    else:
        side = 0.13 if x1 > x0 else -0.13
        ends = ((x0 + side, y0), (x1, y1 + (0.115 if y1 < y0 else -0.115)))
        if start in ("advantages", "engine"):
            ends = ((x0, y0 + (0.115 if y1 > y0 else -0.115)), (x1 - side, y1))
    bend = 0.0 if x0 == x1 else -0.3
    arrow = FancyArrowPatch(
        *ends, arrowstyle="-|>", mutation_scale=16, lw=1.8, color=INK, connectionstyle=f"arc3,rad={bend}"
    )
    axes.add_patch(arrow)
    if label:
        x, y = (ends[0][0] + ends[1][0]) / 2, (ends[0][1] + ends[1][1]) / 2
        shift = {"gradient": (-0.1, -0.1), "weights": (0.06, 0), "actions": (-0.06, 0.11)}[label]
        axes.text(x + shift[0], y + shift[1], label, color=INK, size=9, ha="center", va="center")


def draw_results(path: Path) -> None:
    """Draw held-out results before training, after it, and after training on random rewards."""
    figure, axes = plt.subplots(figsize=(7.6, 3.6))
    for position, (table, trained, control) in enumerate(RESULTS.values()):
        before, after, interval = read_row(LEARNING / table, trained)
        _, random, random_interval = read_row(LEARNING / table, control)
        bars = (
            (-0.27, before, GREY, None, "before training"),
            (0.0, random, ORANGE, random_interval, "trained on random rewards (control)"),
            (0.27, after, BLUE, interval, "trained"),
        )
        for offset, value, colour, around, label in bars:
            error = None if around is None else [[value - (before + around[0])], [before + around[1] - value]]
            y = position + offset
            axes.barh(y, value, 0.25, color=colour, xerr=error, ecolor=INK, label=label if not position else None)
            right = value if around is None else before + around[1]
            axes.text(max(right, value) + 1.2, y, f"{value:.1f} %", size=8, va="center", color=INK)
    axes.set_yticks(range(len(RESULTS)), RESULTS)
    axes.invert_yaxis()
    axes.set(xlim=(0, 107), xlabel="held-out success (WorkflowExecution: mean reward), sampled at temperature 1, in %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, 1.13), ncol=3, frameon=False, fontsize=8.5)
    figure.savefig(path, dpi=130, bbox_inches="tight", facecolor="white")
    plt.close(figure)


def read_row(table: Path, name: str) -> tuple[float, float, tuple[float, float]]:
    """Return percentages before and after training, and the interval of the gain in points.

    Args:
        table: a table of results in Markdown.
        name: the first cell of the row; the first such row is sampled at temperature 1.
    """
    for line in table.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == name:
            percentages = [float(cell.rstrip("%")) for cell in cells if re.fullmatch(r"[\d.]+%", cell)]
            (low, high) = next(re.findall(r"\(([+-][\d.]+) to ([+-][\d.]+)\)", c)[0] for c in cells if " to " in c)
            return percentages[0], percentages[-1], (float(low), float(high))
    raise ValueError(f"{table} has no row {name!r}")


if __name__ == "__main__":
    if "--help" in sys.argv:
        raise SystemExit(print(__doc__))
    draw_loop(ASSETS / "loop.png")
    draw_results(ASSETS / "results.png")
