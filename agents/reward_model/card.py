"""The model card of a step reward model: its data, its training and its quality."""

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
    "reaches the answer and no step before it is wrong. A last step is right if its solution is right.",
    "soft": "The label of a step is the share of {rollouts} completions from it that reach the answer. A last step is\n"
    "right if its solution is right.",
    "solution": "All steps of a solution are labelled right if the solution reaches the answer, and wrong otherwise.",
}
"""Meaning of the labels, by the way of labelling."""


def write_card(folder: Path, config: Any, metrics: Mapping[str, Any]) -> None:
    """Write the model card ``README.md`` in the format of the Hugging Face hub.

    Args:
        folder: folder of the model.
        config: options of the training, a ``RewardModelConfig``.
        metrics: contents of ``metrics.json``.
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

A token classifier on the backbone `{config.model}`. It reads a problem and the steps of a solution, one per line, and
returns at the end of each line the probability that the step is right. Labels: 0 wrong, 1 right.
`AutoModelForTokenClassification.from_pretrained` loads it; `reward_model.path=FOLDER` uses it in a run.

## Labels

{_origin(config)}
{MEANING[config.labels].format(rollouts=config.rollouts)}
A score therefore estimates whether the generator can still reach the answer from a step. All steps after a wrong step
count as wrong, even if their arithmetic is right. An answer without steps is right only if it is the gold answer. A
wrong step counts as right if a completion corrects the mistake by chance, or ignores it.

Training data: {labels["solutions"]} different solutions, {labels["steps"]} steps, {labels["right_share"]:.1%} of them
right{_further(config)}.
Check of the labels: in {labels["agreement"]:.1%} of {labels["checked_steps"]} held-out steps with an equation (up to
the first step labelled wrong), the label agrees with the recomputed arithmetic.

## Held-out quality

{test["solutions"]} solutions of problems that were not trained on; {test["steps"]} steps, {test["right_share"]:.1%} of
them right.

| metric | value |
|---|---|
| ROC AUC, all steps | {test["auc"]:.4f} |
| ROC AUC, steps before the last one | {test["auc_inner"]:.4f} |
| ROC AUC, last steps | {test["auc_last"]:.4f} |
| expected calibration error (10 bins) | {test["ece"]:.4f} |
| Brier score | {test["brier"]:.4f} |
| first wrong step found, in solutions with a wrong step | {test["accuracy_wrong"]:.1%} |
| no wrong step found, in solutions without one | {test["accuracy_right"]:.1%} |
| F1 of the two (as in ProcessBench) | {test["f1"]:.1%} |

A step counts as wrong if its score is below {metrics["threshold"]:.2f}, which was chosen on validation problems.

## Training

`python -m agents.reward_model` with the options below. Labelling took {metrics["seconds"]["labels"]} s, fine-tuning and
evaluation took {metrics["seconds"]["fine_tuning"]} s.

{_options(config)}
""")


def _origin(config: Any) -> str:
    if config.labels_from is not None:
        return f"Labelled solutions were read from `{Path(config.labels_from).name}`."
    return f"Solutions of `{_short(config.tasks)}` were sampled from `{_short(config.engine)}`."


def _further(config: Any) -> str:
    if config.further_labels is None:
        return ""
    return f", and the labelled solutions in `{Path(config.further_labels).name}`"


def _options(config: Any) -> str:
    fields = {**_fields(SamplingConfig, config), **_fields(FineTuningConfig, config), "problems": config.problems}
    return "\n".join(f"* {name}: {value!r}" for name, value in fields.items())


def _fields(part: type, config: Any) -> dict[str, Any]:
    return {name: getattr(config, name) for name in asdict(part())}


def _short(spec: Any) -> str:
    """Return the configuration of tasks or an engine, or the name of the object."""
    if isinstance(spec, Engine):
        return spec.model_name or type(spec).__name__
    return str(spec) if isinstance(spec, str | Mapping) else spec.name
