"""The card of a step reward model: what it was trained on, how, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from agents.reward_model.fine_tuning import FineTuningConfig
from agents.reward_model.labels import SamplingConfig
from agents.tracking.model_card import CARD, front_matter, hub_name
from reason_envs.llm import Engine

MEANING = {
    "hard": "A step is labelled right if any of {rollouts} completions from it (or a sampled solution through it)\n"
    "reaches the answer and no step before it is wrong, else wrong; a last step by whether its solution is right.",
    "soft": "A step's label is the share of {rollouts} completions from it that reach the answer; a last step's is\n"
    "whether its solution is right.",
    "solution": "Every step of a solution carries the label of the whole: right if the solution reaches the answer.",
}
"""What the labels say, by the way of labelling."""


def write_card(folder: Path, config: Any, metrics: Mapping[str, Any]) -> None:
    """Write ``README.md``, as the Hugging Face hub reads it.

    Args:
        folder: of the model.
        config: the ``RewardModelConfig``.
        metrics: what ``metrics.json`` holds.
    """
    test, labels = metrics["test"], metrics["labels"]
    data = ModelCardData(
        base_model=hub_name(config.model),
        library_name="transformers",
        pipeline_tag="token-classification",
        tags=["reason-envs", "process-reward-model"],
        model_name="Step reward model",
        eval_results=[
            EvalResult("token-classification", "reason-envs/steps", _short(config.tasks), "roc_auc", test["auc"])
        ],
    )
    (folder / CARD).write_text(f"""{front_matter(data)}
# Step reward model

A token classifier on the backbone `{config.model}` that reads a problem and the steps of a solution, one a line, and
gives at each line's end the probability that the step is right. Labels: 0 wrong, 1 right.
`AutoModelForTokenClassification.from_pretrained` loads it; `reward_model.path=FOLDER` uses it in a run.

## Labels

{_origin(config)}
{MEANING[config.labels].format(rollouts=config.rollouts)}
So a score tells whether the generator can still get to the answer from here: after a wrong step the later ones count as
wrong, however rightly they are worked out, and an answer given at once, without steps, is right only if it is the
answer. A completion that makes up for an earlier mistake by luck, or passes over it, makes a wrong step count as right.

Learnt from: {labels["solutions"]} different solutions, {labels["steps"]} steps, {labels["right_share"]:.1%} of them
right{_further(config)}.
Check of the labels: in {labels["checked_steps"]} held-out steps that hold an equation (up to the first one labelled
wrong), the label agrees with the recomputed arithmetic in {labels["agreement"]:.1%}.

## Held-out quality

{test["solutions"]} solutions of problems that were not trained on; {test["steps"]} steps, {test["right_share"]:.1%} of
them right.

| measure | value |
|---|---|
| ROC AUC, all steps | {test["auc"]:.4f} |
| ROC AUC, steps that others follow | {test["auc_inner"]:.4f} |
| ROC AUC, last steps | {test["auc_last"]:.4f} |
| expected calibration error (10 bins) | {test["ece"]:.4f} |
| Brier score | {test["brier"]:.4f} |
| first wrong step found, of solutions with one | {test["accuracy_wrong"]:.1%} |
| found free of wrong steps, of solutions that are | {test["accuracy_right"]:.1%} |
| F1 of the two (as ProcessBench) | {test["f1"]:.1%} |

A step counts as wrong below {metrics["threshold"]:.2f}, chosen on validation problems.

## Training

`python -m agents.reward_model` with the options below; labels took {metrics["seconds"]["labels"]} s, fine-tuning and
evaluation {metrics["seconds"]["fine_tuning"]} s.

{_options(config)}
""")


def _origin(config: Any) -> str:
    if config.labels_from is not None:
        return f"Labelled solutions were read from `{Path(config.labels_from).name}`."
    return f"Solutions of `{_short(config.tasks)}` were sampled from `{_short(config.engine)}`."


def _further(config: Any) -> str:
    if config.further_labels is None:
        return ""
    return f"; besides from the labelled solutions in `{Path(config.further_labels).name}`, which were not sampled"


def _options(config: Any) -> str:
    fields = {**_fields(SamplingConfig, config), **_fields(FineTuningConfig, config), "problems": config.problems}
    return "\n".join(f"* {name}: {value!r}" for name, value in fields.items())


def _fields(part: type, config: Any) -> dict[str, Any]:
    return {name: getattr(config, name) for name in asdict(part())}


def _short(spec: Any) -> str:
    """Name tasks or an engine: as configured, or by the name of the object."""
    if isinstance(spec, Engine):
        return spec.model_name or type(spec).__name__
    return str(spec) if isinstance(spec, str | Mapping) else spec.name
