"""The complete workflow experiment: prepare the mixed data, train the preset, evaluate on six benchmarks.

    python benchmarks/workflow/pipeline.py --model Qwen/Qwen2.5-7B-Instruct --device cuda:0     # everything
    python benchmarks/workflow/pipeline.py prepare
    python benchmarks/workflow/pipeline.py train algo.tasks_per_step=2
    python benchmarks/workflow/pipeline.py evaluate --checkpoint checkpoints/qwen25-7b/grpo_mixed/checkpoints/step_100
    python benchmarks/workflow/pipeline.py --smoke                                              # offline, in minutes

Each benchmark is read from ``DATA/NAME`` (a folder with ``train.*`` and ``test.*``, or a file ``NAME.*``) if it exists,
otherwise from the hub. ``--smoke`` uses the embedded model and generated problems instead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.evaluation.evaluate_policy import evaluate_policy
from agents.evaluation.intervals import bootstrap_interval, first_tasks
from agents.training.build import load_run
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import greedy
from reason_envs.tasks import make
from reason_envs.tasks.files.records import SUFFIXES
from reason_envs.tasks.generated.workflow_problems import RATIOS

BENCHMARKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gsm8k": ("math", "correct", {"path": "openai/gsm8k", "config": "main"}),
    "math": ("math", "correct", {"path": "DigitalLearningGmbH/MATH-lighteval"}),
    "hotpotqa": (
        "qa",
        "score",
        {"path": "hotpotqa/hotpot_qa", "config": "distractor", "hub_split": {"train": "train", "test": "validation"}},
    ),
    "drop": ("qa", "score", {"path": "ucinlp/drop", "hub_split": {"train": "train", "test": "validation"}}),
    "humaneval": ("code", "correct", {"path": "openai/openai_humaneval"}),
    "mbpp": ("code", "correct", {"path": "google-research-datasets/mbpp", "config": "sanitized"}),
}
"""Domain, metric (share of correct answers, or mean F1) and hub options of each benchmark."""
PRESET = "workflow_aflow"
OUTPUT = "checkpoints/qwen25-7b/grpo_mixed"
SMOKE = [
    *("env=workflow", "steps=4", "eval_every=0", "algo.tasks_per_step=8", "algo.samples_per_task=4", "save_every=2"),
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the chosen steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "step",
        nargs="?",
        choices=["all", "prepare", "train", "evaluate"],
        default="all",
        help="step to run (default: all)",
    )
    parser.add_argument("overrides", nargs="*", help="options of agents.train (key=value)")
    parser.add_argument("--model", help="model of the policy (default: that of the preset)")
    parser.add_argument("--device", help="device of the policy (default: that of the preset)")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data"),
        help="folder of the benchmarks; the mixed data are written to it (default: data)",
    )
    parser.add_argument("--output", type=Path, default=Path(OUTPUT), help="folder of the run")
    parser.add_argument("--checkpoint", help="checkpoint to evaluate (default: the latest one of the run)")
    parser.add_argument("--problems", type=int, default=500, help="number of problems per benchmark")
    parser.add_argument(
        "--benchmarks", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS), help="benchmarks to use"
    )
    parser.add_argument("--smoke", action="store_true", help="use the embedded model and generated problems")
    options = parser.parse_intermixed_args(arguments)
    if options.step in ("all", "prepare") and not options.smoke:
        prepare(options.data, options.benchmarks)
    if options.step in ("all", "train"):
        train(options)
    if options.step in ("all", "evaluate"):
        evaluate(options)


def source(name: str, data: Path) -> dict[str, Any]:
    """Return the task specification of a benchmark: its files if there are any, otherwise the data set of the hub."""
    places = [data / name, *(data / f"{name}{suffix}" for suffix in SUFFIXES)]
    for place in places:
        if place.exists():
            return {"name": name, "path": str(place)}
    return {"name": "hub", "format": name, **BENCHMARKS[name][2]}


def prepare(data: Path, benchmarks: Sequence[str]) -> None:
    """Write ``mixed/train_mixed.jsonl`` and ``mixed/test_mixed.jsonl`` with the ratios of the domains."""
    domains = [domain for domain in RATIOS if any(BENCHMARKS[name][0] == domain for name in benchmarks)]
    parts = {}
    for name in benchmarks:
        domain = BENCHMARKS[name][0]
        among = sum(BENCHMARKS[other][0] == domain for other in benchmarks)
        parts[name] = {"ratio": RATIOS[domain] / among, **source(name, data)}
    folder = data / "mixed"
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        there = {name: part for name, part in parts.items() if _has(part, split)}
        tasks = make({"name": "mixture", "parts": there}, split)
        with (folder / f"{split}_mixed.jsonl").open("w", encoding="utf-8") as file:
            for task in tasks:
                metadata = {**task.metadata, "domain": BENCHMARKS[task.metadata["source"]][0]}
                record = {"id": task.id, "question": task.question, "answer": task.answer, "metadata": metadata}
                file.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
        print(f"wrote {len(tasks)} tasks ({', '.join(there)}; {', '.join(domains)}) to {file.name}")


def _has(part: dict[str, Any], split: str) -> bool:
    try:
        make({key: value for key, value in part.items() if key != "ratio"}, split)
    except ReasonEnvsError as error:
        print(f"left out of {split}: {error}", file=sys.stderr)
        return False
    return True


def train(options: argparse.Namespace) -> None:
    """Train the preset, or continue an interrupted run."""
    command = [sys.executable, "-m", "agents.train"]
    if (options.output / "checkpoints").is_dir():
        command += [f"resume={options.output}"]
    else:
        mixed = options.data / "mixed"
        preset = SMOKE if options.smoke else [f"+experiment={PRESET}", *_data(mixed)]
        command += [*preset, f"output_dir={options.output}"]
        command += [f"policy.model={options.model}"] if options.model else []
        command += [f"placement.policy={options.device}"] if options.device else []
        command += options.overrides
    print("$", " ".join(command), flush=True)
    subprocess.run(command, check=True)


def _data(mixed: Path) -> list[str]:
    return [f"env.tasks.path.{split}={mixed / f'{split}_mixed.jsonl'}" for split in ("train", "test")]


def evaluate(options: argparse.Namespace) -> None:
    """Evaluate greedily on every benchmark. Print and write the results."""
    run = load_run(None if options.checkpoint else str(options.output), options.checkpoint)
    results = {}
    specifications: dict[str, Any] = {name: source(name, options.data) for name in options.benchmarks}
    if options.smoke:
        specifications = {"gsm8k": "chain_sum", "hotpotqa": "fact_qa", "mbpp": "one_line_code"}
    for name, specification in specifications.items():
        domain, metric, _ = BENCHMARKS[name]
        tasks = first_tasks(
            make({"name": "mixture", "parts": {domain: _part(specification)}}, "test"), options.problems
        )
        _, trajectories = asyncio.run(
            evaluate_policy(run.environment, run.policy, tasks, samples=1, seed=0, sampling=greedy(run.policy.sampling))
        )
        values = np.array([trajectory.metrics[metric] for trajectory in trajectories])
        low, high = bootstrap_interval(values, seed=0)
        results[name] = {"metric": metric, "mean": float(values.mean()), "low": low, "high": high, "n": len(values)}
        reward = np.mean([sum(d.reward for d in t.decisions) for t in trajectories])
        results[name]["reward"] = float(reward)
        print(
            f"{name:10} {metric:8} {values.mean():6.1%} [{low:.1%}, {high:.1%}]  reward {reward:.3f}  n={len(values)}"
        )
    (options.output / "six_benchmarks.json").write_text(json.dumps(results, indent=1) + "\n")


def _part(specification: Any) -> dict[str, Any]:
    return {"ratio": 1, **({"name": specification} if isinstance(specification, str) else specification)}


if __name__ == "__main__":
    main()
