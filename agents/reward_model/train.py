"""Train a step reward model: sample solutions, label their steps, fine-tune a token classifier, and evaluate it.

``python -m agents.reward_model output_dir=my_model tasks=chain_sum engine=transformers model=embedded`` trains one, and
``reward_model.path=my_model`` uses it in ``python -m agents.train``. ``--help`` lists all options.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.config.command_line import parse_pairs, report_errors
from agents.reward_model.config import RewardModelConfig
from agents.reward_model.labels import LabelledSolution, append_labels, label_problems, read_labels
from agents.reward_model.metrics import best_threshold, check_step, first_wrong, step_metrics
from agents.tracking.model_card import CARD
from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.errors import OptionError, ReasonEnvsError, RunError
from reason_envs.llm import Engine, make_engine
from reason_envs.reward_models import StepRewardModel, StepScoreRequest, make_reward_model
from reason_envs.tasks import Task, TaskSet, make
from reason_envs.validation import mounted

PARTS = ("train", "validation", "test")
"""Parts of the labelled solutions, one file each: to train on, to choose the threshold, and to evaluate on."""
GROUP = 256
"""Number of problems whose solutions are labelled, and then written, together."""


def train_reward_model(config: RewardModelConfig) -> Path:
    """Train and evaluate a step reward model, and write its card; return its folder for ``reward_model.path=``.

    Raises:
        ReasonEnvsError: the folder contains a model already, there are too few problems, the generator cannot be used,
            all labels are equal, or the fine-tuning failed. The labels are kept in the last two cases.
    """
    folder, started = Path(config.output_dir), time.monotonic()
    if (folder / "config.json").exists():
        raise OptionError("output_dir", config.output_dir, "contains a model already: choose another folder.")
    if (folder / "labels").exists() and config.labels_from is None:
        rule = f"contains labels already: use them with labels_from={folder / 'labels'}, or choose another folder."
        raise OptionError("output_dir", config.output_dir, rule)
    from agents.reward_model.card import write_card
    from agents.reward_model.fine_tuning import fine_tune

    labels = labelled_solutions(config, folder / "labels")
    sampled = time.monotonic()
    further = [] if config.further_labels is None else read_labels(Path(config.further_labels))
    chosen = [*labels["train"], *further]
    right = {label >= 0.5 for solution in chosen for label in solution.labels}
    if len(right) < 2:
        kind, fix = ("right", "harder") if right == {True} else ("wrong", "easier")
        raise RunError(
            f"All steps of {len(chosen)} solutions are labelled {kind}, so no model can learn the difference: "
            f"choose {fix} problems (tasks), or another generator (engine)."
        )
    kept = config.labels_from or folder / "labels"
    try:
        config = replace(config, learning_rate=fine_tune(config, chosen, config.seed, folder))
        metrics = evaluate_reward_model(folder, labels, config.device)
    except Exception as error:
        raise RunError(
            f"The fine-tuning failed: {type(error).__name__}: {error}. The labelled solutions are kept: continue with "
            f"labels_from={kept} (in a run: reward_model.training.labels_from={kept})."
        ) from error
    metrics["seconds"] = {"labels": round(sampled - started), "fine_tuning": round(time.monotonic() - sampled)}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    write_card(folder, config, metrics)
    return folder


def labelled_solutions(config: RewardModelConfig, folder: Path) -> dict[str, list[LabelledSolution]]:
    """Return labelled solutions for each of `PARTS`.

    They are read from ``config.labels_from``, or sampled and written to ``folder`` as they are made.
    """
    if config.labels_from is not None:
        return {part: read_labels(Path(config.labels_from) / f"{part}.jsonl") for part in PARTS}
    parts = choose_problems(config)
    with mounted("engine"):
        engine = make_engine(config.engine)
    try:
        asyncio.run(engine.check_server())
        labels = asyncio.run(_label(engine, parts, config, folder))
    finally:
        if engine is not config.engine:
            engine.close()
            del engine
            gc.collect()
    return labels


def choose_problems(config: RewardModelConfig) -> dict[str, list[Task]]:
    """Draw the problems of each part, without duplicates.

    Raises:
        ReasonEnvsError: there are too few problems, or the held-out problems are not a test split.
    """
    with mounted("tasks"):
        train = make(config.tasks, "train")
    with mounted("tasks" if config.eval_set is None else "eval_set"):
        test = make(config.tasks if config.eval_set is None else config.eval_set, "test")
    if test.split != "test" or (config.eval_set is None and not test.disjoint):
        rule = "is not a test split: set eval_set to held-out problems, or tasks.holdout=0.2 for a single file."
        raise OptionError("eval_set", test.name, rule)
    learnt = _different(train, config.problems + config.validation_problems, config.seed)
    parts = (learnt[: config.problems], learnt[config.problems :], _different(test, config.test_problems, config.seed))
    return dict(zip(PARTS, parts, strict=True))


def _different(tasks: TaskSet, count: int, seed: int) -> list[Task]:
    """Return the first problems of a shuffled epoch, without problems of the same text."""
    found: dict[str, Task] = {}
    for position in range(len(tasks)):
        task = tasks.ordered(position, seed)
        found.setdefault(task.question, task)
        if len(found) == count:
            return list(found.values())
    raise ReasonEnvsError(
        f"The {tasks.split} split of {tasks.name!r} has {len(found)} different problems, but {count} are needed: lower "
        "problems, validation_problems or test_problems."
    )


async def _label(
    engine: Engine, parts: dict[str, list[Task]], config: RewardModelConfig, folder: Path
) -> dict[str, list[LabelledSolution]]:
    """Label the problems of each part. The part to train on is last: what an interruption leaves of it can be used."""
    folder.mkdir(parents=True, exist_ok=True)
    labels: dict[str, list[LabelledSolution]] = {part: [] for part in PARTS}
    for part in reversed(PARTS):
        for start in range(0, len(parts[part]), GROUP):
            tasks, seed = parts[part][start : start + GROUP], derive_seed(config.seed, part)
            group = await label_problems(engine, tasks, config, seed, warns=part == "train" and start == 0)
            labels[part] += group
            append_labels(folder / f"{part}.jsonl", group)
    return labels


def evaluate_reward_model(
    folder: Path, labels: dict[str, list[LabelledSolution]], device: str = "auto"
) -> dict[str, Any]:
    """Evaluate a saved model on held-out solutions, with the threshold that is best on the validation solutions.

    Returns:
        ``threshold``; the metrics ``validation`` and ``test`` (see `step_metrics`); and ``labels``: the number of
        labels, and how often those of the held-out solutions agree with recomputed arithmetic.
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
    """Return the score of each step of each solution."""
    scored = await gather(*(model.score(StepScoreRequest(s.question, s.steps)) for s in solutions))
    return [solution.scores for solution in scored]


def arithmetic_agreement(solutions: Sequence[LabelledSolution]) -> dict[str, float]:
    """Recompute the equations in steps and compare with the labels, up to the first step labelled wrong.

    ``checked_steps`` is the number of steps with an equation, and ``agreement`` the share of them whose label agrees.
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
    with report_errors():
        folder = train_reward_model(parse_pairs(RewardModelConfig, sys.argv[1:], __doc__ or ""))
        print((folder / CARD).read_text())
