"""The complete workflow experiment: prepare the mixed data, train the preset, evaluate on six benchmarks.

    python benchmarks/workflow/pipeline.py --model Qwen/Qwen2.5-7B-Instruct --device cuda:0     # everything
    python benchmarks/workflow/pipeline.py prepare
    python benchmarks/workflow/pipeline.py train algo.tasks_per_step=2
    python benchmarks/workflow/pipeline.py evaluate --checkpoint checkpoints/qwen25-7b/grpo_mixed/checkpoints/step_100
    python benchmarks/workflow/pipeline.py --smoke                                              # offline, in minutes

Each benchmark is read from ``DATA/NAME`` (a folder with ``train.*`` and ``test.*``, or with one file) or a file
``DATA/NAME.*`` if it exists, otherwise from the hub. A fifth of a single file is held out: training uses the rest.
HumanEval is for evaluation only, and all of it is used. ``--smoke`` uses the embedded model and generated problems.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.config.command_line import report_errors
from agents.evaluate import EvaluateConfig, run_evaluation
from agents.evaluation.intervals import bootstrap_interval
from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks import make
from reason_envs.tasks.files.evaluation_sets import BENCHMARKS, benchmark_tasks
from reason_envs.tasks.mixture import RATIOS

if TYPE_CHECKING:
    from agents.evaluation.evaluate_policy import Evaluation

NAMES = ("gsm8k", "math", "hotpotqa", "drop", "humaneval", "mbpp")
"""Benchmarks of the experiment."""
EVALUATION_ONLY = ("humaneval",)
"""Benchmarks that are never trained on."""
HOLDOUT = 0.2
"""Share of a benchmark without splits that is held out."""
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
    parser.add_argument("--benchmarks", nargs="+", choices=NAMES, default=NAMES, help="benchmarks to use")
    parser.add_argument("--size", type=int, help="number of mixed problems (default: no problem is repeated)")
    parser.add_argument("--smoke", action="store_true", help="use the embedded model and generated problems")
    options = parser.parse_intermixed_args(arguments)
    with report_errors():
        if options.step in ("all", "prepare") and not options.smoke:
            prepare(options.data, options.benchmarks, options.size)
        if options.step in ("all", "train"):
            train(options)
        if options.step in ("all", "evaluate"):
            evaluate(options)


def source(name: str, data: Path) -> dict[str, Any]:
    """Return the task specification of a benchmark. Training and evaluation share it, so that they never overlap."""
    spec = benchmark_tasks(name, data)
    if isinstance(spec.get("path"), dict) and set(spec["path"]) == {"test"}:
        spec["path"] = spec["path"]["test"]  # training needs a part of the only file
    if name in EVALUATION_ONLY or isinstance(spec.get("path"), dict) or make(spec, "test").disjoint:
        return spec
    return {**spec, "holdout": HOLDOUT}


def prepare(data: Path, benchmarks: Sequence[str], size: int | None = None) -> None:
    """Write ``mixed/train_mixed.jsonl`` and ``mixed/test_mixed.jsonl`` with the ratios of the domains.

    Raises:
        ReasonEnvsError: a domain of the benchmarks has no problem to train on.
    """
    sources: dict[str, dict[str, Any]] = {}
    for name in benchmarks:
        try:
            if name in EVALUATION_ONLY:
                raise ReasonEnvsError("it is for evaluation only.")
            sources[name] = source(name, data)
            make(sources[name], "train")
        except ReasonEnvsError as error:
            sources.pop(name, None)
            print(f"{name} is not mixed: {error}", file=sys.stderr)
    counts = Counter(BENCHMARKS[name]["domain"] for name in sources)
    for domain in dict.fromkeys(BENCHMARKS[name]["domain"] for name in benchmarks):
        if not counts[domain]:
            raise ReasonEnvsError(f"No benchmark of the domain {domain} has problems to train on (see above).")
    parts = {
        name: {"ratio": RATIOS[BENCHMARKS[name]["domain"]] / counts[BENCHMARKS[name]["domain"]], **spec}
        for name, spec in sources.items()
    }
    folder = data / "mixed"
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        tasks = make({"name": "mixture", "parts": parts, "size": size if split == "train" else None}, split)
        used: Counter[str] = Counter()
        with (folder / f"{split}_mixed.jsonl").open("w", encoding="utf-8") as file:
            for task in tasks:
                domain = BENCHMARKS[task.metadata["source"]]["domain"]
                used[domain] += 1
                metadata = {**task.metadata, "domain": domain}
                record = {"id": task.id, "question": task.question, "answer": task.answer, "metadata": metadata}
                file.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
        print(f"wrote {len(tasks)} tasks ({', '.join(parts)}) to {file.name}: {dict(used)}")
        for reason, number in tasks.left_out.items():
            print(f"  left out: {number:,} {reason}")


def train(options: argparse.Namespace) -> None:
    """Train the preset, or continue an interrupted run."""
    command = [sys.executable, "-m", "agents.train"]
    if (options.output / "checkpoints").is_dir():
        command += [f"resume={options.output}"]
    else:
        mixed = options.data / "mixed"
        preset = SMOKE if options.smoke else [f"+experiment={PRESET}", *_data(mixed)]
        command += [*preset, f"output_dir={options.output}"]
        command += [*_chosen(options), *options.overrides]
    print("$", " ".join(command), flush=True)
    subprocess.run(command, check=True)


def _data(mixed: Path) -> list[str]:
    return [f"env.tasks.path.{split}={mixed / f'{split}_mixed.jsonl'}" for split in ("train", "test")]


def _chosen(options: argparse.Namespace) -> list[str]:
    model = [f"policy.model={options.model}"] if options.model else []
    return [*model, *([f"placement.policy={options.device}"] if options.device else [])]


def evaluate(options: argparse.Namespace) -> None:
    """Evaluate greedily on every benchmark. Print and write the results, also if some benchmarks fail."""
    folder = Path(options.checkpoint).resolve().parents[1] if options.checkpoint else options.output
    config = EvaluateConfig(
        run=None if options.checkpoint else str(folder),
        checkpoint=options.checkpoint,
        tasks=options.problems,
        samples=1,
        temperature=0.0,
        output_file=str(folder / "six_benchmarks_answers.json"),
    )
    sets = {"gsm8k": "chain_sum", "hotpotqa": "fact_qa", "mbpp": "one_line_code"} if options.smoke else {}
    missing = {}
    for name in () if options.smoke else options.benchmarks:
        try:
            sets[name] = source(name, options.data)
        except ReasonEnvsError as error:
            missing[name] = str(error)
    labelled = {name: {"name": "mixture", "parts": {BENCHMARKS[name]["domain"]: _part(s)}} for name, s in sets.items()}
    evaluated, failed = asyncio.run(run_evaluation(config, _chosen(options), labelled))
    results = {name: summary(name, evaluation) for name, evaluation in evaluated.items()}
    results |= {name: {"error": error} for name, error in {**missing, **failed}.items()}
    (folder / "six_benchmarks.json").write_text(json.dumps(results, indent=1) + "\n")
    print("\n".join(f"{name:10} {_line(result)}" for name, result in results.items()))


def summary(name: str, evaluation: Evaluation) -> dict[str, Any]:
    """Return mean and interval of a benchmark's metric: the share of correct answers, or the mean F1 for questions."""
    metric = "score" if BENCHMARKS[name]["domain"] == "qa" else "correct"
    values = np.array([t.metrics[metric] for t in evaluation.trajectories if not t.failure])
    low, high = bootstrap_interval(values, seed=0)
    found = {"metric": metric, "mean": float(values.mean()), "low": low, "high": high, "n": len(values)}
    return {**found, "reward": evaluation.result.reward, "engine_failures": evaluation.result.engine_failures}


def _line(result: dict[str, Any]) -> str:
    if "error" in result:
        return f"not evaluated: {result['error']}"
    interval = f"[{result['low']:.1%}, {result['high']:.1%}]"
    return f"{result['metric']:8} {result['mean']:6.1%} {interval}  reward {result['reward']:.3f}  n={result['n']}"


def _part(specification: Any) -> dict[str, Any]:
    return {"ratio": 1, **({"name": specification} if isinstance(specification, str) else specification)}


if __name__ == "__main__":
    main()
