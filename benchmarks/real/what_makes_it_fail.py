"""What makes training fail? Seven questions about GRPO, each answered by short runs of a real model.

This command does everything. It continues after an interruption:

    python -m benchmarks.real.what_makes_it_fail policy.model=FOLDER

``FOLDER`` holds SmolLM2-135M-Instruct in Hugging Face format. The model learns to add two numbers. Every run differs
from ``base`` in one choice. A finished run is stored as one file of ``--rows``, and its weights are deleted. Table and
plots are made from these files alone. To repeat a run, write it to another folder:

    python -m benchmarks.real.what_makes_it_fail policy.model=FOLDER --rows rows --arms rate_high --seeds 0
    python -m benchmarks.real.what_makes_it_fail --seeds    # train nothing, make table and plots
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.crossed_bootstrap import crossed_bootstrap
from benchmarks.learning.common import train

FOLDER = Path(__file__).with_suffix("")
SAMPLES = 64
"""Number of responses per training step, in every arm."""
BASE = (
    "env.tasks={name: chain_sum, min_terms: 2, max_terms: 2, max_digits: 1}",
    *("policy.max_tokens=16", "steps=13", "eval_every=0", "save_every=6", "keep_last=1"),
    *("policy.lora_rank=16", "algo.optimizer.learning_rate=3e-4", "algo.micro_batch_tokens=1024"),
    *("policy.dtype=bfloat16", "policy.precision=bfloat16", "engine.dtype=bfloat16"),
)
"""Options of `agents.train` for every arm: sums of two numbers of one digit, and a LoRA at three times its default
learning rate, so that 13 steps are enough. A step has 8 problems with 8 samples each."""
HELD_OUT = ("eval_set={name: chain_sum, min_terms: 2, max_terms: 2, min_digits: 2}", "tasks=128", "samples=2", "seed=0")
"""Options of `agents.evaluate` for every arm: sums of two numbers of two digits."""


def groups(size: int) -> tuple[str, ...]:
    """Return the options of groups of ``size`` responses, with an equal number of responses per step."""
    return (f"algo.tasks_per_step={SAMPLES // size}", f"algo.samples_per_task={size}")


RATE = "algo.optimizer.learning_rate"
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "base": ("base", ()),
    "penalties": ("+1 / -1 / -0.5", ("env.reward.wrong=-1", "env.reward.no_answer=-0.5")),
    "rate_high": ("1e-3", (f"{RATE}=1e-3",)),
    "kl_large": ("1", ("algo.kl_coef=1",)),
    "tokens_8": ("8 tokens", ("policy.max_tokens=8",)),
    "group_2": ("2", groups(2)),
    "ppo": ("PPO", ("algo=ppo", *groups(1))),
    "random": ("coin flips", ("env.reward.name=random", "env.reward.wrong=0", "env.reward.fallbacks=[last_number]")),
    "rate_default": ("1e-4 (default)", (f"{RATE}=null",)),
    "rloo": ("RLOO", ("algo.leave_one_out=true", "algo.scale=none")),
    "group_16": ("16", groups(16)),
    "kl_small": ("0.04", ("algo.kl_coef=0.04",)),
    "tokens_48": ("48 tokens", ("policy.max_tokens=48",)),
    "group_4": ("4", groups(4)),
}
"""Label and options of each arm, in the order in which they are trained."""
QUESTIONS: dict[str, tuple[str, Mapping[str, str]]] = {
    "rewards": ("Rewards: right / wrong / no answer", {"base": "1 / 0 / 0", "penalties": ""}),
    "learning_rate": ("Learning rate", {"rate_default": "", "base": "3e-4", "rate_high": ""}),
    "group_size": ("Group size, 64 responses per step", {"group_2": "", "group_4": "", "base": "8", "group_16": ""}),
    "kl": ("KL coefficient", {"base": "0 (default)", "kl_small": "", "kl_large": ""}),
    "length": ("Maximum length of a response", {"tokens_8": "", "base": "16 tokens", "tokens_48": ""}),
    "algorithm": ("Algorithm", {"base": "GRPO", "rloo": "", "ppo": ""}),
    "control": ("Control: random rewards", {"base": "right answers", "random": ""}),
}
"""Title of each question, and its arms with their labels; an empty label is the arm's own."""
KEPT = (
    *("step", "reward", "accuracy", "frac_no_answer", "frac_truncated", "frac_zero_std", "response_length", "entropy"),
    *("step_kl", "kl", "grad_norm", "learning_rate", "time/step", "memory/peak_mb"),
)
"""Metrics of each training step that a row file keeps."""
WARNING = re.compile(r"Warning: (.*)")
Row = dict[str, Any]


def evaluated(folder: Path, *, untrained: bool) -> Row:
    """Evaluate a run on held-out problems, and return the share of right answers of each problem."""
    path = folder / f"held_out{'_untrained' * untrained}.json"
    command = [sys.executable, "-m", "agents.evaluate", f"run={folder}", f"untrained={untrained}", *HELD_OUT]
    subprocess.run([*command, f"output_file={path}"], check=True)
    result = json.loads(path.read_text())
    right = np.array([answer["correct"] for answer in result["answers"]]).reshape(-1, result["config"]["samples"])
    responses = [answer["responses"][-1] for answer in result["answers"][:3]]
    return {"correct": right.mean(axis=1).tolist(), "responses": responses}


def trained(folder: Path) -> Row:
    """Return the metrics of each training step of a run, and its warnings."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    metrics = [each for each in lines if "accuracy" in each]
    steps = {key: [_short(each.get(key)) for each in metrics] for key in KEPT if key in metrics[-1]}
    return {"steps": steps, "warnings": WARNING.findall((folder / "train.log").read_text())}


def _short(value: float | None) -> float | None:
    return value if value is None else float(f"{value:.5g}")


def main() -> None:
    """Train missing runs, and make table and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/what_makes_it_fail"), help="folder of unfinished runs")
    parser.add_argument("--rows", type=Path, default=FOLDER / "rows", help="folder of the row files")
    parser.add_argument("--seeds", type=int, nargs="*", default=(0,), help="seeds of the runs (none: only report)")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="arms to train")
    parser.add_argument("overrides", nargs="*", help="options of agents.train (key=value) for every run")
    arguments = parser.parse_args()
    arguments.rows.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        for arm in arguments.arms:
            make_row(arguments.rows / f"{arm}_{seed}.json", arguments.runs / f"{arm}_{seed}", arguments.overrides)
    rows = read(arguments.rows)
    text = "\n".join(table(rows))
    print(text)
    (arguments.rows.parent / "table.md").write_text(text + "\n")
    for question in QUESTIONS:
        if sum(bool(runs_of(rows, arm)) for arm, _ in arms_of(question)) > 1:
            plot(rows, question, arguments.rows.parent / f"{question}.png")


def make_row(path: Path, folder: Path, overrides: Sequence[str]) -> None:
    """Train and evaluate a run, write its row file, and delete its weights. A run with a row file is not repeated."""
    if path.exists():
        return
    arm, _, seed = path.stem.rpartition("_")
    options = [f"seed={seed}", *BASE, *ARMS[arm][1], *overrides]
    train(folder, options)
    untrained = path.with_name(f"untrained_{length_of(arm)}.json")
    if not untrained.exists():
        untrained.write_text(json.dumps(evaluated(folder, untrained=True)) + "\n")
    stated = [option for option in options if not option.startswith("policy.model=")]
    row = {"arm": arm, "seed": int(seed), "options": stated, **trained(folder), **evaluated(folder, untrained=False)}
    path.write_text(json.dumps(row) + "\n")
    for weights in ("checkpoints", "policy_final"):
        shutil.rmtree(folder / weights, ignore_errors=True)


def length_of(arm: str) -> int:
    """Return the maximum number of tokens of an arm's responses."""
    lengths = [option for option in (*BASE, *ARMS[arm][1]) if option.startswith("policy.max_tokens=")]
    return int(lengths[-1].partition("=")[2])


def read(folder: Path) -> dict[str, Row]:
    """Return all row files by their names."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def runs_of(rows: Mapping[str, Row], arm: str) -> dict[int, Row]:
    """Return the rows of an arm by seed."""
    return {row["seed"]: row for row in rows.values() if row.get("arm") == arm}


def arms_of(question: str) -> Iterator[tuple[str, str]]:
    """Yield each arm of a question with its label."""
    for arm, label in QUESTIONS[question][1].items():
        yield arm, label or ARMS[arm][0]


def ending(runs: Mapping[int, Row], metric: str) -> float:
    """Return the mean of a metric over the last 5 training steps of the runs."""
    return float(np.mean([row["steps"][metric][-5:] for row in runs.values()]))


def interval(values: np.ndarray) -> str:
    """Return mean and 95 % interval of a difference in points."""
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * each for each in (values.mean(), *crossed_bootstrap(values))))


def table(rows: Mapping[str, Row]) -> Iterator[str]:
    """Yield the lines of the table: the base, then the other arms of each question."""
    yield (
        "| question | arm | seeds | training, last 5 steps | held out, before -> after "
        "| gain in points (95 % interval) | against base | no answer | tokens | entropy | largest step_kl "
        "| seconds per step |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|"
    base = runs_of(rows, "base")
    yield line(rows, "base", "all", ", ".join(arms["base"] for _, arms in QUESTIONS.values()), base)
    for question, (title, _) in QUESTIONS.items():
        for arm, label in arms_of(question):
            if arm != "base" and (runs := runs_of(rows, arm)):
                yield line(rows, arm, title, label, runs)


def line(rows: Mapping[str, Row], arm: str, title: str, label: str, runs: Mapping[int, Row]) -> str:
    """Return the line of an arm."""
    base = runs_of(rows, "base")
    both = sorted(runs.keys() & base.keys())
    after = np.array([row["correct"] for row in runs.values()])
    before = np.array(rows[f"untrained_{length_of(arm)}"]["correct"])
    against = np.array([runs[seed]["correct"] for seed in both]) - [base[seed]["correct"] for seed in both]
    moved = max(kl for row in runs.values() for kl in row["steps"]["step_kl"] if kl is not None)
    seconds = np.median([s for row in runs.values() for s in row["steps"]["time/step"] if s is not None])
    keys = ("accuracy", "frac_no_answer", "response_length", "entropy")
    right, silent, tokens, entropy = (ending(runs, key) for key in keys)
    return (
        f"| {title} | {label} | {len(runs)} | {right:.1%} | {before.mean():.1%} -> {after.mean():.1%} "
        f"| {interval(after - before)} | {'-' if arm == 'base' else interval(against)} "
        f"| {silent:.0%} | {tokens:.0f} | {entropy:.2f} | {moved:.2g} | {seconds:.1f} |"
    )


def plot(rows: Mapping[str, Row], question: str, path: Path) -> None:
    """Plot the share of right answers in training, mean of the seeds; of rewards also the share without an answer."""
    figure, axes = plt.subplots(figsize=(4.6, 2.7), layout="constrained")
    metrics = {"accuracy": "-", **({"frac_no_answer": ":"} if question == "rewards" else {})}
    arms = sorted(arms_of(question), key=lambda each: each[0] != "base")
    for place, (arm, label) in enumerate(arms):
        for metric, style in metrics.items():
            if runs := runs_of(rows, arm):
                curve = _smooth(np.mean([row["steps"][metric] for row in runs.values()], axis=0))
                name = label if metric == "accuracy" else f"{label}: no answer"
                axes.plot(2 + np.arange(len(curve)), curve, style, color=f"C{place}", label=name, linewidth=2)
    axes.set(xlabel="training step", ylabel="training samples, %", ylim=(0, 80))
    axes.set_title(QUESTIONS[question][0], fontsize="medium")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize="small", loc="upper left")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _smooth(share: np.ndarray) -> np.ndarray:
    """Return percentages as means of 3 steps."""
    return 100 * np.convolve(share, np.ones(3) / 3, mode="valid")


if __name__ == "__main__":
    main()
