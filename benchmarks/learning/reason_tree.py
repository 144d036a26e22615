"""Does PPO learn to search? Three seeds, held-out problems, a control, and all search baselines at equal tokens.

This command does everything. It continues after an interruption:

    python benchmarks/learning/reason_tree.py

Each run trains with ``python -m agents.train env=reason_tree steps=30``. The final reward of the control is a coin
flip, and step scores add no reward. Then ``benchmarks/search/frontier.py`` evaluates the trained policies and the
searches.
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

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (0, 1, 2)
STEPS = 30
ARMS = {"math": [], "random": ["env.reward=random", "env.value_weight=0"]}
COLOURS = {"math": "#1f6f8b", "random": "#b5651d"}
LABELS = {"math": "rewards by answer and steps", "random": "control: random rewards"}


def main() -> None:
    """Train missing runs, evaluate missing results, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark_reason_tree"), help="folder of the runs")
    parser.add_argument(
        "--report", type=Path, default=Path(__file__).parent / "reason_tree", help="folder of tables and plots"
    )
    parser.add_argument("--problems", type=int, default=1024, help="number of held-out problems")
    parser.add_argument("overrides", nargs="*", help="options of agents.train (key=value) for every run")
    arguments = parser.parse_args()
    for arm, options in ARMS.items():
        for seed in SEEDS:
            train(arguments.runs / f"{arm}_{seed}", seed, [*options, *arguments.overrides])
    arguments.report.mkdir(exist_ok=True)
    plot(arguments.runs, arguments.report / "curves.png")
    for arm in ARMS:
        compare(arguments, arm)


def train(folder: Path, seed: int, overrides: list[str]) -> None:
    """Train or continue a run. A finished run is not changed."""
    if (folder / "policy_final").is_dir():
        return
    command = [sys.executable, "-m", "agents.train"]
    if (folder / "checkpoints").is_dir():
        command += [f"resume={folder}"]
    else:
        command += ["env=reason_tree", "algo=ppo", f"steps={STEPS}", f"output_dir={folder}", f"seed={seed}", *overrides]
    print("$", " ".join(command), flush=True)
    subprocess.run(command, check=True)


def compare(arguments: argparse.Namespace, arm: str) -> None:
    """Evaluate the policies of an arm and the searches. Both arms share the answers of the searches."""
    runs = ",".join(str(arguments.runs / f"{arm}_{seed}") for seed in SEEDS)
    report = arguments.report if arm == "math" else arguments.report / "control"
    command = [sys.executable, str(ROOT / "benchmarks/search/frontier.py"), f"runs=[{runs}]", f"report={report}"]
    command += [f"results={arguments.runs / 'answers'}", f"problems={arguments.problems}"]
    print("$", " ".join(command), flush=True)
    subprocess.run(command, check=True)


def plot(runs: Path, path: Path) -> None:
    """Plot accuracy and tokens of the training episodes of every run."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(7, 6), sharex=True, layout="constrained")
    for arm in ARMS:
        for seed in SEEDS:
            lines = (runs / f"{arm}_{seed}" / "metrics.jsonl").read_text().splitlines()
            steps = [metrics for metrics in map(json.loads, lines) if "accuracy" in metrics]
            x = [metrics["step"] for metrics in steps][2:-2]
            options = {"color": COLOURS[arm], "alpha": 0.85, "label": LABELS[arm] if seed == 0 else None}
            above.plot(x, smooth([100 * metrics["accuracy"] for metrics in steps]), **options)
            below.plot(x, smooth([metrics["episode/generated_tokens"] for metrics in steps]), **options)
    above.set(ylabel="correct episodes, % (mean of 5 steps)", ylim=(0, 100))
    below.set(ylabel="generated tokens per episode", xlabel="training step", ylim=(0, None))
    above.set_title("ReasonTree-v0, PPO on a graph policy, embedded models, three seeds")
    above.legend(frameon=False)
    for axes in (above, below):
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=130)


def smooth(values: list[float]) -> np.ndarray:
    """Return the moving average over five steps."""
    return np.convolve(values, np.ones(5) / 5, mode="valid")


if __name__ == "__main__":
    main()
