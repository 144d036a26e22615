"""Can a small scorer rank real models' solutions? Train and evaluate one on four models' answers to GSM8K.

    python benchmarks/search/gsm8k_solutions.py                        # a few minutes on two cores
    python benchmarks/search/gsm8k_solutions.py data=FOLDER output_dir=FOLDER

``data/gsm8k/example_model_solutions.jsonl`` holds four models' solutions of each of the 1,319 test problems with their
grades. The scorer is a step reward model (``agents.reward_model.fine_tuning``) fine-tuned from the embedded base model,
0.9M parameters that have never read such text, with the grade of the whole solution on each of its steps; a
solution's score is that of its last step. Problems, not solutions, are split. Prints what it measures as JSON
and keeps the scorer.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agents.config.command_line import parse_pairs, report_errors
from agents.reward_model.fine_tuning import FineTuningConfig, fine_tune
from agents.reward_model.labels import LabelledSolution
from agents.reward_model.metrics import brier_score, expected_calibration_error, roc_auc
from agents.reward_model.train import score_solutions
from reason_envs.core import derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.reward_models import make_reward_model

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
DATA = Path(__file__).parents[2] / "../shared/data"
DRAWS = 10_000
"""Bootstrap samples of the test problems."""


@dataclass
class BenchmarkConfig:
    """Options of the benchmark."""

    data: str = field(default_factory=lambda: os.environ.get("REASON_ENVS_DATA", str(DATA)))
    """Folder that holds ``gsm8k/example_model_solutions.jsonl``."""
    output_dir: str = "runs/gsm8k_scorer"
    """Folder of the scorer and ``figures.json``."""
    train_problems: int = 900
    """Problems to learn from; the others are held out."""
    epochs: int = 2
    """Passes over their solutions."""
    learning_rate: float = 1e-3
    """Highest learning rate."""
    seed: int = 0
    """Keys the split and the training."""


def read_problems(path: Path) -> list[list[LabelledSolution]]:
    """Return the four solutions of every problem, one step a line, without the calculator's annotations."""
    if not path.is_file():
        raise ReasonEnvsError(f"There is no {path}: set data= or REASON_ENVS_DATA to the folder that holds gsm8k/.")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [[labelled(f"gsm8k/{i}", row["question"], row[model]) for model in MODELS] for i, row in enumerate(rows)]


def labelled(task_id: str, question: str, solution: dict) -> LabelledSolution:
    text = re.sub(r"<<.*?>>", "", solution["solution"])
    steps = tuple(line.strip() for line in text.splitlines() if line.strip())
    correct = bool(solution["is_correct"])
    return LabelledSolution(task_id, question, steps, (float(correct),) * len(steps), correct)


def answer(solution: LabelledSolution) -> str:
    """Return the number in the last line."""
    text = solution.steps[-1].removeprefix("A:").replace(",", "").strip(" $.%")
    return re.sub(r"\.0+$", "", text)


def majority(solutions: Sequence[LabelledSolution]) -> float:
    """Return the chance that a most frequent answer, drawn among equals, is right."""
    counts = Counter(map(answer, solutions))
    right = {answer(s): s.correct for s in solutions}
    best = [text for text, count in counts.items() if count == max(counts.values())]
    return float(np.mean([right[text] for text in best]))


def figures(problems: Sequence[Sequence[LabelledSolution]], scores: np.ndarray, seed: int) -> dict:
    """Compare the choice by score ([problems, 4]) with the alternatives; intervals are bootstraps over problems."""
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
        "brier": brier_score(scores.ravel(), right.ravel()),
        "pairs_of_one_problem_ranked_rightly": float(np.mean(pairs)),
        "accuracy": {name: values.mean() for name, values in arms.items()},
        "gain_over_random": [gain.mean(), *np.quantile(gain, [0.025, 0.975])],
    }


def rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(float(value), 4) if isinstance(value, float | np.floating) else value


def run(config: BenchmarkConfig) -> dict:
    problems = read_problems(Path(config.data) / "gsm8k" / "example_model_solutions.jsonl")
    order = np.random.default_rng(derive_seed(config.seed, "split")).permutation(len(problems))
    train, test = ([problems[i] for i in part] for part in np.split(order, [config.train_problems]))
    options = FineTuningConfig(
        device="cpu", epochs=config.epochs, learning_rate=config.learning_rate, batch_size=32, balance=False
    )
    folder = Path(config.output_dir)
    fine_tune(options, [s for solutions in train for s in solutions], config.seed, folder)
    model = make_reward_model("transformers", model=str(folder), device="cpu")
    scores = asyncio.run(score_solutions(model, [s for solutions in test for s in solutions]))
    last = np.array([row[-1] for row in scores]).reshape(-1, len(MODELS))
    found = rounded(figures(test, last, config.seed))
    assert isinstance(found, dict)
    (folder / "figures.json").write_text(json.dumps(found, indent=2) + "\n")
    return found


if __name__ == "__main__":
    with report_errors():
        print(json.dumps(run(parse_pairs(BenchmarkConfig, sys.argv[1:], __doc__ or "")), indent=2))
