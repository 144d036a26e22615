"""Make a step reward model (phase 1 of a search run): sample solutions, label their steps, fine-tune, evaluate, save.

``python -m agents.reward_model output_dir=my_model tasks=chain_sum engine=transformers model=embedded`` makes one;
``reward_model.model=my_model`` uses it. ``--help`` lists every option.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.config.command_line import parse_pairs, report_errors
from agents.reward_model.card import write_card
from agents.reward_model.fine_tuning import FineTuningConfig, fine_tune
from agents.reward_model.labels import LabelledSolution, SamplingConfig, label_problems, read_labels, write_labels
from agents.reward_model.metrics import best_threshold, check_step, first_wrong, step_metrics
from agents.tracking.model_card import CARD
from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import Engine, make_engine
from reason_envs.reward_models import StepRewardModel, StepScoreRequest, make_reward_model
from reason_envs.tasks import Task, TaskSet, make
from reason_envs.validation import at_least, mounted

PARTS = ("train", "validation", "test")
"""The files of labelled solutions: to learn from, to choose the threshold on, to evaluate on."""


@dataclass
class RewardModelConfig(SamplingConfig, FineTuningConfig):
    """Options of ``python -m agents.reward_model``."""

    output_dir: str = "runs/reward_model"
    """Folder of the model, ``metrics.json``, ``README.md`` (its card) and ``labels/``; must not hold a model yet."""
    seed: int = 0
    """Keys everything random."""
    tasks: Any = "chain_sum"
    """The problems: a family's name, a mapping of its ``name`` and options, or a ``TaskSet``. The train split is learnt
    from and validated on, the test split evaluates."""
    eval_set: Any = None
    """Problems of the evaluation, as ``tasks`` takes them; null: the test split of ``tasks``."""
    engine: Any = "transformers"
    """The generator: an engine's name, a mapping of its ``name`` and options (it is closed before the fine-tuning), or
    an engine (it is left open)."""
    problems: int = 3000
    """Problems to learn from."""
    validation_problems: int = 300
    """Further problems of the train split, on which the threshold is chosen."""
    test_problems: int = 600
    """Held-out problems."""
    labels_from: str | None = None
    """Folder of labelled solutions (``labels`` of an earlier run, or your own in that format); null samples them."""
    further_labels: str | None = None
    """JSONL file of further labelled solutions to learn from, in that format."""

    def __post_init__(self) -> None:
        SamplingConfig.__post_init__(self)
        FineTuningConfig.__post_init__(self)
        at_least(self, problems=1, validation_problems=1, test_problems=1)


def train_reward_model(config: RewardModelConfig) -> Path:
    """Run phase 1; return the folder of the model, which ``reward_model.model=`` takes.

    Raises:
        ReasonEnvsError: the folder holds a model already, or the problems do not suffice.
    """
    folder, started = Path(config.output_dir), time.monotonic()
    if (folder / "config.json").exists():
        raise ReasonEnvsError(f"output_dir={config.output_dir!r} holds a model already: choose another folder.")
    labels = labelled_solutions(config, folder / "labels")
    sampled = time.monotonic()
    further = [] if config.further_labels is None else read_labels(Path(config.further_labels))
    fine_tune(config, [*labels["train"], *further], config.seed, folder)
    metrics = evaluate_reward_model(folder, labels, config.device)
    metrics["seconds"] = {"labels": round(sampled - started), "fine_tuning": round(time.monotonic() - sampled)}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    write_card(folder, config, metrics)
    return folder


def labelled_solutions(config: RewardModelConfig, folder: Path) -> dict[str, list[LabelledSolution]]:
    """Sample and label solutions for each of ``PARTS`` and write them to ``folder``, or read ``config.labels_from``."""
    if config.labels_from is not None:
        return {part: read_labels(Path(config.labels_from) / f"{part}.jsonl") for part in PARTS}
    parts = choose_problems(config)
    with mounted("engine"):
        engine = make_engine(config.engine)
    try:
        labels = asyncio.run(_label(engine, parts, config))
    finally:
        if engine is not config.engine:
            engine.close()
            del engine
            gc.collect()
    folder.mkdir(parents=True, exist_ok=True)
    for part, solutions in labels.items():
        write_labels(folder / f"{part}.jsonl", solutions)
    return labels


def choose_problems(config: RewardModelConfig) -> dict[str, list[Task]]:
    """Draw the different problems of each part.

    Raises:
        ReasonEnvsError: a set has too few, or the held-out problems are not of a test split.
    """
    with mounted("tasks"):
        train = make(config.tasks, "train")
    with mounted("tasks" if config.eval_set is None else "eval_set"):
        test = make(config.tasks if config.eval_set is None else config.eval_set, "test")
    if test.split != "test":
        raise ReasonEnvsError(f"The problems of {test.name!r} are no test split: set eval_set to held-out problems.")
    learnt = _different(train, config.problems + config.validation_problems, config.seed)
    parts = (learnt[: config.problems], learnt[config.problems :], _different(test, config.test_problems, config.seed))
    return dict(zip(PARTS, parts, strict=True))


def _different(tasks: TaskSet, count: int, seed: int) -> list[Task]:
    """Return the first problems of a shuffled epoch, without those whose text has come already."""
    found: dict[str, Task] = {}
    for position in range(len(tasks)):
        task = tasks.ordered(position, seed)
        found.setdefault(task.question, task)
        if len(found) == count:
            return list(found.values())
    raise ReasonEnvsError(
        f"{tasks.name!r} has {len(found)} different problems in its {tasks.split} split, and {count} are wanted: lower "
        "problems, validation_problems or test_problems."
    )


async def _label(
    engine: Engine, parts: dict[str, list[Task]], config: RewardModelConfig
) -> dict[str, list[LabelledSolution]]:
    return {
        part: await label_problems(engine, tasks, config, derive_seed(config.seed, part))
        for part, tasks in parts.items()
    }


def evaluate_reward_model(
    folder: Path, labels: dict[str, list[LabelledSolution]], device: str = "auto"
) -> dict[str, Any]:
    """Evaluate a saved model on held-out solutions, with the threshold that does best on the validation ones.

    Returns:
        ``threshold``, ``validation`` and ``test`` (see ``step_metrics``), and ``labels``: how many there are, and how
        often those of the held-out solutions agree with recomputed arithmetic.
    """
    model = make_reward_model("transformers", model=str(folder), device=device)
    scores = {part: asyncio.run(score_solutions(model, labels[part])) for part in PARTS[1:]}
    model.close()
    marks = {part: [solution.labels for solution in labels[part]] for part in PARTS}
    threshold = best_threshold(scores["validation"], marks["validation"])
    return {
        "threshold": threshold,
        **{part: step_metrics(scores[part], marks[part], threshold) for part in PARTS[1:]},
        "labels": {
            "solutions": len(labels["train"]),
            "steps": sum(map(len, marks["train"])),
            "right_share": sum(map(sum, marks["train"])) / sum(map(len, marks["train"])),
            **arithmetic_agreement(labels["test"]),
        },
    }


async def score_solutions(model: StepRewardModel, solutions: Sequence[LabelledSolution]) -> list[list[float]]:
    """Return the scores of every step of every solution."""
    scored = await gather(*(model.score(StepScoreRequest(s.question, s.steps)) for s in solutions))
    return [solution.scores for solution in scored]


def arithmetic_agreement(solutions: Sequence[LabelledSolution]) -> dict[str, float]:
    """Recompute the equations of steps and compare with the labels, up to the first step labelled wrong.

    Returns:
        ``checked_steps`` (that hold an equation), and the share ``agreement`` of them whose label says what the
        arithmetic does.
    """
    agrees = []
    for solution in solutions:
        end = first_wrong(solution.labels, 0.5)
        for step, label in zip(solution.steps[: end + 1 or None], solution.labels, strict=False):
            holds = check_step(step)
            if holds is not None:
                agrees.append(holds == (label >= 0.5))
    return {"checked_steps": len(agrees), "agreement": sum(agrees) / len(agrees) if agrees else float("nan")}


def main() -> None:
    """Run the command line."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with report_errors():
        config = parse_pairs(RewardModelConfig, sys.argv[1:], __doc__ or "")
        folder = train_reward_model(config)
        print((folder / CARD).read_text())


if __name__ == "__main__":
    main()
