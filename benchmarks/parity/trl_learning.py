"""Is learning per sample equal here and in ``GRPOTrainer`` of TRL? The same training on both sides, and its curves.

    pip install trl==1.16.0
    python -m benchmarks.parity.trl_learning        # from the repository's root; resumable by seed and side

Both sides train all weights of the embedded model for 30 steps with the same 32 problems x 8 samples in the same order:
temperature 1, constant learning rate 5e-5, AdamW, gradients clipped at norm 1, mean over tokens, advantages divided by
the standard deviation of the group, no KL penalty, the same grader and rewards. Only the random numbers of the samples
differ. Then one evaluator grades both on the same 512 held-out problems, with 4 samples each and greedily.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.throughput.trl_side import SAMPLES, TASKS, Setting, require_trl, trl_trainer

STEPS = 30
SEEDS = (0, 1, 2)
LEARNING_RATE = 5e-5
PROBLEMS = 512
EVALUATION_SAMPLES = 4
SHOWN = (1, 5, 10, 15, 20, 25, 30)


def train_ours(seed: int, folder: Path) -> None:
    """Train with the command line. Save the model and the accuracy of the samples of each step."""
    command = [sys.executable, "-m", "agents.train", f"output_dir={folder}/run", f"seed={seed}", f"steps={STEPS}"]
    command += [f"algo.tasks_per_step={TASKS}", f"algo.samples_per_task={SAMPLES}", "eval_every=0", "save_every=0"]
    subprocess.run([*command, f"algo.optimizer.learning_rate={LEARNING_RATE}"], check=True, stdout=subprocess.DEVNULL)
    metrics = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    (folder / "run/policy_final").rename(folder / "model")
    write_curve(folder, [row["accuracy"] for row in metrics if "accuracy" in row])


def train_trl(seed: int, folder: Path) -> None:
    """Train with TRL. Save the same files."""
    from reason_envs.rewards import MathReward, grade_math
    from reason_envs.tasks import make

    problems, reward, correct = make("chain_sum"), MathReward(), []

    def pay(response: str, answer: str) -> float:
        grade = grade_math(response, answer)
        correct.append(grade.correct)
        return reward.pay(grade)

    tasks = [problems.ordered(i, seed) for i in range(TASKS * STEPS)]
    trainer = trl_trainer(Setting(), tasks, pay, str(folder), learning_rate=LEARNING_RATE, seed=seed)
    trainer.train()
    trainer.save_model(str(folder / "model"))
    write_curve(folder, np.array(correct).reshape(STEPS, -1).mean(axis=1).tolist())


def write_curve(folder: Path, accuracy: list[float]) -> None:
    (folder / "curve.json").write_text(json.dumps(accuracy) + "\n")


SIDES = {"ours": train_ours, "trl": train_trl}


def evaluate(model: Path) -> dict[str, float]:
    """Return the accuracy of a model folder on held-out problems with the same evaluator for both sides."""
    from agents.config.compose import compose_config
    from agents.evaluation.evaluate_policy import evaluate_policy
    from agents.evaluation.intervals import first_tasks
    from agents.training.build import build
    from agents.training.resolve import resolve
    from reason_envs.llm.engine import greedy

    run = build(resolve(compose_config([f"policy.model={model}"])))
    tasks = first_tasks(run.test_tasks, PROBLEMS)
    ways = {"sampled": (run.policy.sampling, EVALUATION_SAMPLES), "greedy": (greedy(run.policy.sampling), 1)}
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
    parser.add_argument("--runs", type=Path, default=Path("runs/trl_learning"), help="folder of the runs")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="seeds of the runs")
    parser.add_argument("--child", nargs=3, metavar=("SIDE", "SEED", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        side, seed, folder = arguments.child
        SIDES[side](int(seed), Path(folder))
        return
    require_trl()
    results: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        for side in SIDES:
            folder = arguments.runs / f"{side}_{seed}"
            if not (folder / "curve.json").exists():
                folder.mkdir(parents=True, exist_ok=True)
                child = [sys.executable, "-m", "benchmarks.parity.trl_learning", "--child", side, str(seed)]
                subprocess.run([*child, str(folder)], check=True, stdout=subprocess.DEVNULL)
            curve = json.loads((folder / "curve.json").read_text())
            results.append({"side": side, "seed": seed, "curve": curve, **evaluate(folder / "model")})
            print(row_of(side, str(seed), curve, results[-1]), flush=True)
    print(table(results))
    (arguments.runs / "results.json").write_text(json.dumps(results) + "\n")


def row_of(side: str, seed: str, curve: Any, accuracy: Any) -> str:
    shown = " | ".join(f"{curve[step - 1]:.1%}" for step in SHOWN)
    return f"| {side} | {seed} | {shown} | {accuracy['sampled']:.1%} | {accuracy['greedy']:.1%} |"


def table(results: list[dict[str, Any]]) -> str:
    """Return every run and the mean of each side as a markdown table."""
    columns = ["side", "seed", *(f"step {step}" for step in SHOWN), "held out, sampled", "held out, greedy"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += [row_of(r["side"], str(r["seed"]), r["curve"], r) for r in results]
    for side in SIDES:
        mine = [r for r in results if r["side"] == side]
        means = {name: float(np.mean([r[name] for r in mine])) for name in ("sampled", "greedy")}
        lines.append(row_of(side, "mean", np.mean([r["curve"] for r in mine], axis=0), means))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
