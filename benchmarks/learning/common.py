"""Shared parts of the learning benchmarks of language policies: runs, held-out evaluation, table and curves."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from agents.evaluation.intervals import first_tasks
from agents.trajectory import Trajectory
from benchmarks.crossed_bootstrap import crossed_bootstrap
from reason_envs.llm.engine import greedy

SEEDS = (0, 1, 2)
COLOURS = ("#1f6f8b", "#b5651d")


def correct(trajectory: Trajectory) -> float:
    """Return whether the answer of an episode was correct."""
    return trajectory.metrics["correct"]


@dataclass(frozen=True)
class LearningBenchmark:
    """Arms that are trained with several seeds, and their report."""

    name: str
    """Name of the folders of the runs and the report."""
    title: str
    """Title of the plot."""
    options: Sequence[str]
    """Options of agents.train (``key=value``) for every arm."""
    arms: Mapping[str, Sequence[str]]
    """Further options of each arm: first the arm that learns, then the control."""
    score: Callable[[Trajectory], float] = correct
    """Score of an episode, independent of the rewards of its arm. Default: 1 if the answer is correct."""
    score_name: str = "correct samples"
    """Label of the accuracy of the training episodes in the plot."""
    problems: int = 1024
    """Number of held-out problems."""
    samples: int = 4
    """Number of samples per problem at temperature 1."""
    reports: Path = Path(__file__).parent
    """Folder in which the report's folder is made."""

    def main(self, description: str) -> None:
        """Train missing runs, evaluate missing results, and report."""
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--runs", type=Path, default=Path(f"runs/benchmark_{self.name}"), help="folder of the runs")
        parser.add_argument("--report", type=Path, default=self.reports / self.name, help="folder of table and plot")
        parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="seeds of the runs")
        parser.add_argument("--control-seeds", type=int, nargs="*", help="seeds of the control (default: --seeds)")
        parser.add_argument("overrides", nargs="*", help="options of agents.train (key=value) for every run")
        arguments = parser.parse_args()
        learns, control = self.arms
        controls = arguments.seeds if arguments.control_seeds is None else arguments.control_seeds
        seeds = {learns: arguments.seeds, control: controls}
        results = {}
        for arm, options in self.arms.items():
            folders = [arguments.runs / f"{arm}_{seed}" for seed in seeds[arm]]
            for seed, folder in zip(seeds[arm], folders, strict=True):
                train(folder, [f"seed={seed}", *self.options, *options, *arguments.overrides])
                for which in ("before", "after"):
                    self.evaluate(folder, which, seed)
            results[arm] = [load(folder) for folder in folders]
        table = report(results)
        print(table)
        arguments.report.mkdir(parents=True, exist_ok=True)
        (arguments.report / "table.md").write_text(table + "\n")
        self.plot(arguments.runs, seeds, arguments.report / "curves.png")

    def evaluate(self, folder: Path, which: str, seed: int) -> None:
        """Evaluate a run before or after training on held-out problems, sampled at temperature 1 and greedily."""
        from agents.evaluation.evaluate_policy import evaluate_policy
        from agents.training.build import load_run  # both load torch, which --help does not need

        path = folder / f"evaluation_{which}.json"
        if path.exists():
            return
        run = load_run(str(folder), untrained=which == "before")
        tasks = first_tasks(run.test_tasks, self.problems)
        results: dict[str, Any] = {}
        for name, samples, sampling in (
            ("sampled", self.samples, run.policy.sampling),
            ("greedy", 1, greedy(run.policy.sampling)),
        ):
            _, trajectories = asyncio.run(
                evaluate_policy(run.environment, run.policy, tasks, samples=samples, seed=seed, sampling=sampling)
            )
            scores = np.array([self.score(t) for t in trajectories]).reshape(-1, samples)
            tokens = [len(d.choice.token_ids) for t in trajectories for d in t.decisions]
            results |= {name: scores.mean(axis=1).tolist(), f"{name}_tokens": float(np.mean(tokens))}
        run.close()
        path.write_text(json.dumps(results) + "\n")

    def plot(self, runs: Path, seeds: Mapping[str, Sequence[int]], path: Path) -> None:
        """Plot the accuracy of the training episodes of every run."""
        figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
        for arm, colour in zip(self.arms, COLOURS, strict=True):
            for seed in seeds[arm]:
                steps, accuracy = zip(*curves(runs / f"{arm}_{seed}"), strict=True)
                smooth = np.convolve(accuracy, np.ones(5) / 5, mode="valid")
                label = None if seed != seeds[arm][0] else f"{'control: ' if arm == 'random' else ''}{arm} rewards"
                axes.plot(steps[2 : 2 + len(smooth)], 100 * smooth, color=colour, alpha=0.85, label=label)
        axes.set(xlabel="training step", ylabel=f"{self.score_name}, % (mean of 5 steps)", ylim=(0, 100))
        counts = " and ".join(dict.fromkeys(str(len(each)) for each in seeds.values() if each))
        axes.set_title(f"{self.title}, {counts} seeds", fontsize="medium", wrap=True)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
        figure.savefig(path, dpi=130)


def train(folder: Path, overrides: Sequence[str]) -> None:
    """Train or continue a run. A finished run is not changed."""
    if (folder / "policy_final").is_dir():
        return
    command = [sys.executable, "-m", "agents.train"]
    if (folder / "checkpoints").is_dir():
        command += [f"resume={folder}"]
    else:
        command += [f"output_dir={folder}", *overrides]
    print("$", " ".join(command), flush=True)
    subprocess.run(command, check=True)


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """Read both evaluations of a run."""
    return {which: json.loads((folder / f"evaluation_{which}.json").read_text()) for which in ("before", "after")}


def report(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return the table of the scores before and after training, with the interval of the gain."""
    lines = [
        "| rewards | decoding | before | after | gain in points (95 % interval) | each seed | tokens before -> after |",
        "|---|---|---|---|---|---|---|",
    ]
    for reward, runs in ((reward, runs) for reward, runs in results.items() if runs):
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


def curves(folder: Path) -> Iterator[tuple[int, float]]:
    """Yield each training step with the accuracy of its episodes."""
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        metrics = json.loads(line)
        if "accuracy" in metrics:
            yield metrics["step"], metrics["accuracy"]
