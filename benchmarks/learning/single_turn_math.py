"""Does the default run learn? Three seeds, held-out problems, and a control whose rewards are coin flips.

One line does everything, and continues where it was interrupted:

    python benchmarks/learning/single_turn_math.py

Each run trains with ``python -m agents.train`` and its defaults: the figures are those of the README's first command.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from agents.evaluate import evaluate_policy, first_tasks
from agents.runs import load_run
from reason_envs.llm.engine import greedy

SEEDS = (0, 1, 2)
REWARDS = ("math", "random")
PROBLEMS = 1024
SAMPLES = 4
BOOTSTRAP = 10_000
COLOURS = {"math": "#1f6f8b", "random": "#b5651d"}


def main() -> None:
    """Train what is missing, evaluate what is missing, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark_single_turn_math"), help="run folders")
    parser.add_argument(
        "--report", type=Path, default=Path(__file__).parent / "single_turn_math", help="table and plot"
    )
    parser.add_argument("overrides", nargs="*", help="key=value for agents.train, the same for every run")
    arguments = parser.parse_args()
    for reward in REWARDS:
        for seed in SEEDS:
            train(arguments.runs / f"{reward}_{seed}", reward, seed, arguments.overrides)
            for which in ("before", "after"):
                evaluate(arguments.runs / f"{reward}_{seed}", which, seed)
    results = {reward: [load(arguments.runs / f"{reward}_{seed}") for seed in SEEDS] for reward in REWARDS}
    table = report(results)
    print(table)
    arguments.report.mkdir(exist_ok=True)
    (arguments.report / "table.md").write_text(table + "\n")
    plot(arguments.runs, arguments.report / "curves.png")


def train(folder: Path, reward: str, seed: int, overrides: list[str]) -> None:
    """Train one run, or continue it; a finished one is left alone."""
    if (folder / "policy_final").is_dir():
        return
    command = [sys.executable, "-m", "agents.train"]
    if (folder / "checkpoints").is_dir():
        command += [f"resume={folder}"]
    else:
        command += [f"output_dir={folder}", f"seed={seed}", f"env.reward.name={reward}", *overrides]
    print("$", " ".join(command), flush=True)
    subprocess.run(command, check=True)


def evaluate(folder: Path, which: str, seed: int) -> None:
    """Evaluate before or after training on held-out problems, sampled at temperature 1 and greedily."""
    path = folder / f"evaluation_{which}.json"
    if path.exists():
        return
    run = load_run(str(folder), untrained=which == "before")
    tasks = first_tasks(run.test_tasks, PROBLEMS)
    figures: dict[str, Any] = {}
    for name, samples, sampling in (
        ("sampled", SAMPLES, run.policy.sampling),
        ("greedy", 1, greedy(run.policy.sampling)),
    ):
        _, trajectories = asyncio.run(
            evaluate_policy(run.environment, run.policy, tasks, samples=samples, seed=seed, sampling=sampling)
        )
        correct = np.array([t.metrics["correct"] for t in trajectories]).reshape(-1, samples)
        figures[name] = correct.mean(axis=1).tolist()
        figures[f"{name}_tokens"] = float(np.mean([len(d.choice.token_ids) for t in trajectories for d in t.decisions]))
    path.write_text(json.dumps(figures) + "\n")


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """Read both evaluations of a run."""
    return {which: json.loads((folder / f"evaluation_{which}.json").read_text()) for which in ("before", "after")}


def report(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return the table: accuracy before and after, and the gain with its interval over seeds and problems."""
    lines = [
        "| rewards | decoding | before | after | gain in points (95 % interval) | each seed | tokens before -> after |",
        "|---|---|---|---|---|---|---|",
    ]
    for reward, runs in results.items():
        for decoding in ("sampled", "greedy"):
            before, after = (np.array([r[w][decoding] for r in runs]) for w in ("before", "after"))
            low, high = crossed_bootstrap(after - before)
            tokens = [np.mean([r[w][f"{decoding}_tokens"] for r in runs]) for w in ("before", "after")]
            each = ", ".join(f"{100 * g:+.1f}" for g in (after - before).mean(axis=1))
            lines.append(
                f"| {reward} | {decoding} | {before.mean():.1%} | {after.mean():.1%} "
                f"| {100 * (after - before).mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) | {each} "
                f"| {tokens[0]:.0f} -> {tokens[1]:.0f} |"
            )
    return "\n".join(lines)


def crossed_bootstrap(gains: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the mean of [seeds, problems], both resampled."""
    generator = np.random.default_rng(0)
    seeds, problems = gains.shape
    means = [
        gains[generator.integers(0, seeds, seeds)][:, generator.integers(0, problems, problems)].mean()
        for _ in range(BOOTSTRAP)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def curves(folder: Path) -> Iterator[tuple[int, float]]:
    """Iterate over (step, accuracy of the training samples)."""
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        metrics = json.loads(line)
        if "accuracy" in metrics:
            yield metrics["step"], metrics["accuracy"]


def plot(runs: Path, path: Path) -> None:
    """Draw the accuracy of the training samples of every run."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for reward in REWARDS:
        for seed in SEEDS:
            steps, accuracy = zip(*curves(runs / f"{reward}_{seed}"), strict=True)
            smooth = np.convolve(accuracy, np.ones(5) / 5, mode="valid")
            label = {"math": "rewards by answer", "random": "control: random rewards"}[reward] if seed == 0 else None
            axes.plot(steps[2 : 2 + len(smooth)], 100 * smooth, color=COLOURS[reward], alpha=0.85, label=label)
    axes.set(xlabel="training step (256 samples each)", ylabel="correct samples, % (mean of 5 steps)", ylim=(0, 100))
    axes.set_title("SingleTurnMath-v0, GRPO, embedded model, three seeds")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
