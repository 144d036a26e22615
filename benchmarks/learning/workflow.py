"""Does GRPO learn to write workflows? Three seeds, held-out problems, and a control whose rewards are coin flips.

One line does everything, and continues where it was interrupted:

    python benchmarks/learning/workflow.py

Each run trains with ``python -m agents.train env=workflow`` and its defaults. Figures are mean rewards (five tiers) and
accuracy on problems of the test split, which neither training nor the embedded model's pre-training saw; the control is
judged by the same tiers as the others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from single_turn_math import SEEDS, crossed_bootstrap, load

from agents.evaluate import evaluate_policy, first_tasks
from agents.runs import load_run
from reason_envs.llm.engine import greedy

REWARDS = ("tiers", "random")
PROBLEMS = 768
SAMPLES = 2
FIGURES = {"reward": "mean reward", "correct": "accuracy"}
DOMAINS = ("math", "qa", "code")
COLOURS = {"tiers": "#1f6f8b", "random": "#b5651d"}
LABELS = {"tiers": "rewards by tiers", "random": "control: random rewards"}


def main() -> None:
    """Train what is missing, evaluate what is missing, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark_workflow"), help="run folders")
    parser.add_argument("--report", type=Path, default=Path(__file__).parent / "workflow", help="table and plot")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="seeds of each arm")
    parser.add_argument("overrides", nargs="*", help="key=value for agents.train, the same for every run")
    arguments = parser.parse_args()
    for reward in REWARDS:
        for seed in arguments.seeds:
            folder = arguments.runs / f"{reward}_{seed}"
            train(folder, reward, seed, arguments.overrides)
            for which in ("before", "after"):
                evaluate(folder, which, seed)
    results = {reward: [load(arguments.runs / f"{reward}_{seed}") for seed in arguments.seeds] for reward in REWARDS}
    table = report(results)
    print(table)
    arguments.report.mkdir(exist_ok=True)
    (arguments.report / "table.md").write_text(table + "\n")
    plot(arguments.runs, arguments.seeds, arguments.report / "curves.png")


def train(folder: Path, reward: str, seed: int, overrides: list[str]) -> None:
    """Train one run, or continue it; a finished one is left alone."""
    if (folder / "policy_final").is_dir():
        return
    command = [sys.executable, "-m", "agents.train"]
    if (folder / "checkpoints").is_dir():
        command += [f"resume={folder}"]
    else:
        command += ["env=workflow", f"output_dir={folder}", f"seed={seed}", f"env.reward={reward}", *overrides]
    print("$", " ".join(command), flush=True)
    subprocess.run(command, check=True)


def evaluate(folder: Path, which: str, seed: int) -> None:
    """Evaluate before or after training on held-out problems, sampled at temperature 1 and greedily."""
    path = folder / f"evaluation_{which}.json"
    if path.exists():
        return
    run = load_run(str(folder), untrained=which == "before", overrides=["env.reward=tiers"])
    tasks = first_tasks(run.test_tasks, PROBLEMS)
    figures: dict[str, Any] = {"domains": [task.metadata["source"] for task in tasks]}
    for decoding, samples, sampling in (
        ("sampled", SAMPLES, run.policy.sampling),
        ("greedy", 1, greedy(run.policy.sampling)),
    ):
        _, trajectories = asyncio.run(
            evaluate_policy(run.environment, run.policy, tasks, samples=samples, seed=seed, sampling=sampling)
        )
        earned = {
            "reward": [sum(d.reward for d in t.decisions) for t in trajectories],
            "correct": [t.metrics["correct"] for t in trajectories],
        }
        for name, values in earned.items():
            figures[f"{decoding}_{name}"] = np.reshape(values, (-1, samples)).mean(axis=1).tolist()
        figures[f"{decoding}_tokens"] = float(np.mean([t.generated_tokens for t in trajectories]))
    path.write_text(json.dumps(figures) + "\n")


def report(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return the tables: before and after, the gain with its interval over seeds and problems, and each domain."""
    lines = [
        "| rewards | decoding | figure | before | after | gain (95 % interval) | each seed | tokens before -> after |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for reward, runs in results.items():
        for decoding in ("sampled", "greedy"):
            tokens = [np.mean([r[w][f"{decoding}_tokens"] for r in runs]) for w in ("before", "after")]
            for name, figure in FIGURES.items():
                before, after = _figures(runs, f"{decoding}_{name}")
                low, high = crossed_bootstrap(after - before)
                each = ", ".join(f"{g:+.3f}" for g in (after - before).mean(axis=1))
                lines.append(
                    f"| {reward} | {decoding} | {figure} | {before.mean():.3f} | {after.mean():.3f} "
                    f"| {(after - before).mean():+.3f} ({low:+.3f} to {high:+.3f}) | {each} "
                    f"| {tokens[0]:.0f} -> {tokens[1]:.0f} |"
                )
    lines += ["", "| rewards | mean reward, sampled | before | after |", "|---|---|---|---|"]
    for reward, runs in results.items():
        before, after = _figures(runs, "sampled_reward")
        domains = np.array(runs[0]["before"]["domains"])
        for domain in DOMAINS:
            here = domains == domain
            lines.append(f"| {reward} | {domain} | {before[:, here].mean():.3f} | {after[:, here].mean():.3f} |")
    return "\n".join(lines)


def _figures(runs: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    before, after = (np.array([run[which][name] for run in runs]) for which in ("before", "after"))
    return before, after


def plot(runs: Path, seeds: list[int], path: Path) -> None:
    """Draw the accuracy of the training samples of every run (the control's rewards say nothing)."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for reward in REWARDS:
        for seed in seeds:
            rows = map(json.loads, (runs / f"{reward}_{seed}" / "metrics.jsonl").read_text().splitlines())
            points = [(row["step"], row["accuracy"]) for row in rows if "accuracy" in row]
            smooth = np.convolve([100 * y for _, y in points], np.ones(5) / 5, mode="valid")
            steps = [x for x, _ in points][2 : 2 + len(smooth)]
            label = LABELS[reward] if seed == seeds[0] else None
            axes.plot(steps, smooth, color=COLOURS[reward], alpha=0.85, label=label)
    axes.set(xlabel="training step (256 workflows each)", ylabel="correct, % (mean of 5 steps)", ylim=(0, 100))
    axes.set_title("WorkflowExecution-v0, GRPO, embedded model, three seeds")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
