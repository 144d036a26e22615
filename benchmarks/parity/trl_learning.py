"""Is learning per sample equal here and in ``GRPOTrainer`` of TRL? The same training on both sides, and its curves.

    pip install trl==1.16.0
    python -m benchmarks.parity.trl_learning        # from the repository's root; resumable by seed and side
    python -m benchmarks.parity.trl_learning --model FOLDER     # SmolLM2-135M-Instruct in Hugging Face format

Both sides train all weights with the same problems x 8 samples in the same order: temperature 1, constant learning
rate, AdamW, gradients clipped at norm 1, mean over tokens, advantages divided by the standard deviation of the group,
no KL penalty, the same prompts, grader and rewards. Only the random numbers of the samples differ. Then one evaluator
grades both on the same held-out problems, sampled and greedily. `EMBEDDED` and `SMOLLM2` have the sizes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.throughput.trl_side import SAMPLES, Setting, require_trl, trl_trainer

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Comparison:
    """What both sides train, and on what they are evaluated."""

    setting: Setting
    steps: int
    rate: float
    train: Mapping[str, Any]
    """Training tasks."""
    held_out: Mapping[str, Any]
    """Tasks of the evaluation, from the test split."""
    problems: int
    """Number of held-out problems."""
    wrong: float = -1.0
    """Reward of a wrong answer. A right one earns 1."""
    no_answer: float = -0.5
    """Reward of a response without an answer."""
    fallbacks: tuple[str, ...] = ()
    """Places where the grader looks for an answer without a box."""
    samples: int = 4
    """Samples per held-out problem."""


SUMS = {"name": "chain_sum"}
EMBEDDED = Comparison(Setting(), 30, 5e-5, SUMS, SUMS, 512)
DIGITS = {**SUMS, "min_terms": 2, "max_terms": 2}
SMOLLM2 = Comparison(
    Setting(tasks=8, max_tokens=16, micro_batch=16),
    20,
    1e-5,
    {**DIGITS, "max_digits": 1},
    {**DIGITS, "min_digits": 2},
    256,
    wrong=0.0,
    no_answer=0.0,
    fallbacks=("last_number",),
)


def comparison(model: str) -> Comparison:
    """Return the sizes for a model."""
    return EMBEDDED if model == "embedded" else replace(SMOLLM2, setting=replace(SMOLLM2.setting, model=model))


def options(what: Comparison) -> list[str]:
    """Return the options of `agents.train` for the model, prompts, grader and sizes of both sides."""
    tasks = ", ".join(f"{key}: {value}" for key, value in what.train.items())
    return [
        *(f"policy.model={what.setting.model}", f"policy.max_tokens={what.setting.max_tokens}"),
        *(f"env.tasks={{{tasks}}}", "env.system_prompt=null", f"env.reward.fallbacks=[{','.join(what.fallbacks)}]"),
        *(f"env.reward.wrong={what.wrong}", f"env.reward.no_answer={what.no_answer}"),
        *(f"algo.tasks_per_step={what.setting.tasks}", f"algo.samples_per_task={SAMPLES}"),
        *(f"algo.optimizer.learning_rate={what.rate}", f"steps={what.steps}", "eval_every=0", "save_every=0"),
    ]


def train_ours(what: Comparison, seed: int, folder: Path) -> None:
    """Train with the command line. Save the model and the accuracy of the samples of each step."""
    command = [sys.executable, "-m", "agents.train", f"output_dir={folder}/run", f"seed={seed}", *options(what)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    metrics = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    (folder / "run/policy_final").rename(folder / "model")
    write_curve(folder, [row["accuracy"] for row in metrics if "accuracy" in row])


def train_trl(what: Comparison, seed: int, folder: Path) -> None:
    """Train with TRL. Save the same files."""
    from reason_envs.rewards import MathReward, grade_math
    from reason_envs.tasks import make

    problems, correct = make(what.train), []
    reward = MathReward(wrong=what.wrong, no_answer=what.no_answer)

    def pay(response: str, answer: str) -> float:
        grade = grade_math(response, answer, what.fallbacks)
        correct.append(grade.correct)
        return reward.pay(grade)

    tasks = [problems.ordered(i, seed) for i in range(what.setting.tasks * what.steps)]
    trainer = trl_trainer(what.setting, tasks, pay, str(folder), learning_rate=what.rate, seed=seed)
    trainer.train()
    trainer.save_model(str(folder / "model"))
    write_curve(folder, np.array(correct).reshape(what.steps, -1).mean(axis=1).tolist())


def write_curve(folder: Path, accuracy: list[float]) -> None:
    (folder / "curve.json").write_text(json.dumps(accuracy) + "\n")


SIDES = {"ours": train_ours, "trl": train_trl}


def evaluate(what: Comparison, model: Path) -> dict[str, float]:
    """Return the accuracy of a model folder on held-out problems with the same evaluator for both sides."""
    from agents.config.compose import compose_config
    from agents.evaluation.evaluate_policy import evaluate_policy
    from agents.evaluation.intervals import first_tasks
    from agents.training.build import build
    from agents.training.resolve import resolve
    from reason_envs.llm.engine import greedy
    from reason_envs.tasks import make

    run = build(resolve(compose_config([*options(what), f"policy.model={model}"])))
    tasks = first_tasks(make(what.held_out, "test"), what.problems)
    ways = {"sampled": (run.policy.sampling, what.samples), "greedy": (greedy(run.policy.sampling), 1)}
    accuracy = {}
    for name, (sampling, samples) in ways.items():
        result, _ = asyncio.run(
            evaluate_policy(run.environment, run.policy, tasks, samples=samples, seed=0, sampling=sampling)
        )
        accuracy[name] = result.accuracy
    return accuracy


def main() -> None:
    """Train and evaluate missing runs, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="name or folder of the model (default: embedded)")
    parser.add_argument("--runs", type=Path, default=Path("runs/trl_learning"), help="folder of the runs")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="seeds of the runs")
    parser.add_argument("--output", type=Path, help="file for the results (default: results.json in --runs)")
    parser.add_argument("--child", nargs=3, metavar=("SIDE", "SEED", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    what = comparison(arguments.model)
    if arguments.child:
        side, seed, folder = arguments.child
        SIDES[side](what, int(seed), Path(folder))
        return
    require_trl()
    results: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        for side in SIDES:
            results.append({"side": side, "seed": seed, **result(what, side, seed, arguments.runs / f"{side}_{seed}")})
            print(row_of(results[-1], shown(what)), flush=True)
    print(table(results, shown(what)))
    output = arguments.output or arguments.runs / "results.json"
    output.write_text("".join(json.dumps(each) + "\n" for each in results))


def result(what: Comparison, side: str, seed: int, folder: Path) -> dict[str, Any]:
    """Return the curve and the held-out accuracy of a side, and train and evaluate first if files are missing."""
    if not (folder / "curve.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        child = [sys.executable, "-m", "benchmarks.parity.trl_learning", f"--model={what.setting.model}"]
        command = [*child, "--child", side, str(seed), str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    evaluation = folder / "evaluation.json"
    if not evaluation.exists():
        evaluation.write_text(json.dumps(evaluate(what, folder / "model")) + "\n")
    return {"curve": json.loads((folder / "curve.json").read_text()), **json.loads(evaluation.read_text())}


def shown(what: Comparison) -> list[int]:
    """Return the numbers of the steps in the table."""
    return [1, *range(5, what.steps + 1, 5)]


def row_of(result: Mapping[str, Any], steps: list[int]) -> str:
    curve = " | ".join(f"{result['curve'][step - 1]:.1%}" for step in steps)
    return f"| {result['side']} | {result['seed']} | {curve} | {result['sampled']:.1%} | {result['greedy']:.1%} |"


def table(results: list[dict[str, Any]], steps: list[int]) -> str:
    """Return every run and the mean of each side as a markdown table."""
    columns = ["side", "seed", *(f"step {step}" for step in steps), "held out, sampled", "held out, greedy"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += [row_of(each, steps) for each in results]
    for side in SIDES:
        mine = [each for each in results if each["side"] == side]
        means = {name: np.mean([each[name] for each in mine], axis=0) for name in ("curve", "sampled", "greedy")}
        lines.append(row_of({"side": side, "seed": "mean", **means}, steps))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
