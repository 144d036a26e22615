"""Can a small scorer rank real models' solutions? Train and evaluate one on four models' answers to GSM8K.

    python benchmarks/search/gsm8k_solutions.py --data FOLDER        # a few minutes on two cores

``FOLDER/gsm8k/example_model_solutions.jsonl`` holds four models' solutions of each of the 1,319 test problems with
their grades. The scorer is a step reward model (`agents.reward_model.fine_tuning`), fine-tuned from the embedded base
model: 0.9M parameters that have never read such text. The label of every step is the grade of the whole solution, and
the score of a solution is the score of its last step. The split is by problem, not by solution. The script prints its
metrics as JSON and keeps the scorer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gsm8k_data import MODELS, option_parser, read_rows

from agents.config.command_line import report_errors
from agents.reward_model.fine_tuning import FineTuningConfig, fine_tune
from agents.reward_model.labels import LabelledSolution
from agents.reward_model.metrics import expected_calibration_error, roc_auc
from agents.reward_model.train import score_solutions
from reason_envs.core import derive_seed
from reason_envs.reward_models import make_reward_model

DRAWS = 10_000
"""Number of bootstrap samples of the test problems."""


def read_problems(rows: Sequence[dict[str, Any]]) -> list[list[LabelledSolution]]:
    """Return the four solutions of every problem, one step per line, without calculator annotations."""
    return [[labelled(f"gsm8k/{i}", row["question"], row[model]) for model in MODELS] for i, row in enumerate(rows)]


def labelled(task_id: str, question: str, solution: dict) -> LabelledSolution:
    """Return a solution whose steps all have the grade of the whole solution as their label."""
    text = re.sub(r"<<.*?>>", "", solution["solution"])
    steps = tuple(line.strip() for line in text.splitlines() if line.strip())
    correct = bool(solution["is_correct"])
    return LabelledSolution(task_id, question, steps, (float(correct),) * len(steps), correct)


def answer(solution: LabelledSolution) -> str:
    """Return the number in the last line of a solution."""
    text = solution.steps[-1].removeprefix("A:").replace(",", "").strip(" $.%")
    return re.sub(r"\.0+$", "", text)


def majority(solutions: Sequence[LabelledSolution]) -> float:
    """Return the probability that the most frequent answer, drawn at random among ties, is correct."""
    counts = Counter(map(answer, solutions))
    right = {answer(s): s.correct for s in solutions}
    best = [text for text, count in counts.items() if count == max(counts.values())]
    return float(np.mean([right[text] for text in best]))


def metrics(problems: Sequence[Sequence[LabelledSolution]], scores: np.ndarray, seed: int) -> dict:
    """Compare the choice by ``scores`` ([problems, 4]) with the alternatives; bootstrap over the problems."""
    right = np.array([[s.correct for s in solutions] for solutions in problems])
    chosen = right[np.arange(len(right)), scores.argmax(1)].astype(float)
    arms = {
        "best_of_4": chosen,
        "random": right.mean(1),
        "majority": np.array([majority(solutions) for solutions in problems]),
        "always_175b_verification": right[:, 3].astype(float),
        "ceiling": right.any(1).astype(float),
    }
    rng = np.random.default_rng(derive_seed(seed, "bootstrap"))
    drawn = rng.integers(0, len(right), (DRAWS, len(right)))
    gain = (chosen - arms["random"])[drawn].mean(1)
    pairs = [(a > b) + (a == b) / 2 for s, r in zip(scores, right, strict=True) for a in s[r] for b in s[~r]]
    return {
        "problems": len(right),
        "right_share": right.mean(),
        "auc": roc_auc(scores.ravel(), right.ravel()),
        "auc_by_model": {m: roc_auc(scores[:, i], right[:, i]) for i, m in enumerate(MODELS)},
        "ece": expected_calibration_error(scores.ravel(), right.ravel()),
        "brier": float(np.mean((scores - right) ** 2)),
        "pairs_of_one_problem_ranked_rightly": float(np.mean(pairs)),
        "accuracy": {name: values.mean() for name, values in arms.items()},
        "gain_over_random": [gain.mean(), *np.quantile(gain, [0.025, 0.975])],
    }


def rounded(value: object) -> object:
    """Return nested metrics with numbers rounded to four digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(float(value), 4) if isinstance(value, float | np.floating) else value


def run(options: argparse.Namespace) -> dict:
    """Train the scorer, evaluate it on the held-out problems and return the metrics."""
    problems = read_problems(read_rows(options.data))
    order = np.random.default_rng(derive_seed(options.seed, "split")).permutation(len(problems))
    train, test = ([problems[i] for i in part] for part in np.split(order, [options.train_problems]))
    config = FineTuningConfig(
        device="cpu", epochs=options.epochs, learning_rate=options.learning_rate, batch_size=32, balance=False
    )
    fine_tune(config, [s for solutions in train for s in solutions], options.seed, options.output)
    model = make_reward_model("transformers", model=str(options.output), device="cpu")
    scores = asyncio.run(score_solutions(model, [s for solutions in test for s in solutions]))
    last = np.array([row[-1] for row in scores]).reshape(-1, len(MODELS))
    found = rounded(metrics(test, last, options.seed))
    assert isinstance(found, dict)
    (options.output / "metrics.json").write_text(json.dumps(found, indent=2) + "\n")
    return found


def main() -> None:
    """Run the command line."""
    parser = option_parser(__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/gsm8k_scorer"), help="folder of scorer and metrics")
    parser.add_argument("--train-problems", type=int, default=900, help="problems to train on; the others are held out")
    parser.add_argument("--epochs", type=int, default=2, help="training epochs (default 2)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="maximum learning rate (default 0.001)")
    print(json.dumps(run(parser.parse_args()), indent=2))


if __name__ == "__main__":
    with report_errors():
        main()
