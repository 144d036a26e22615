"""Solutions of sums with slips, each step labelled by arithmetic: further data for the embedded step reward model.

``python -m benchmarks.embedded_models.step_reward_model.demonstrations FILE`` writes a file for ``python -m
agents.reward_model further_labels=FILE``. Problems of the test split are left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.embedded_models.base.demonstrations import QUESTION, chain_sum_expression, check_steps, slipping
from reason_envs.tasks.base import split_of

COUNT = 40_000
"""Number of solutions in the training data of the embedded model."""
SLIP_RATE = 0.2
"""Share of wrong steps, high enough that most solutions have one."""


def judged_sums(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield solutions of sums of the train split. A step is correct if it and all earlier steps are correct."""
    rng = Random(seed)
    for number in range(count):
        expression = chain_sum_expression(rng)
        while split_of(QUESTION.format(expression=expression)) != "train":
            expression = chain_sum_expression(rng)
        solution = slipping(expression, rng, SLIP_RATE)
        right: list[bool] = list(accumulate(check_steps(expression, solution), lambda sofar, step: sofar and step))
        yield {
            "task_id": f"judged_sum/{seed}/{number}",
            "question": QUESTION.format(expression=expression),
            "steps": solution.split("\n"),
            "labels": [float(label) for label in right],
            "correct": right[-1],
        }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="output file, in JSON lines")
    parser.add_argument("--count", type=int, default=COUNT, help="number of solutions")
    parser.add_argument("--seed", type=int, default=0, help="seed of the problems and the slips")
    arguments = parser.parse_args()
    lines = (json.dumps(row) + "\n" for row in judged_sums(arguments.count, arguments.seed))
    arguments.file.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
