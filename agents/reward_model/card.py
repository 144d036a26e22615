"""The model card of a step reward model: its data, its training and its quality."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from agents.reward_model.config import FineTuningConfig
from agents.reward_model.labels import SamplingConfig
from agents.tracking.model_card import CARD, front_matter, hub_name, render
from reason_envs.llm import Engine


def write_card(folder: Path, config: Any, metrics: Mapping[str, Any]) -> None:
    """Write the card ``README.md`` of a model in the format of the Hugging Face hub.

    ``config`` is the ``RewardModelConfig`` of the training, ``metrics`` the contents of ``metrics.json``.
    """
    tasks, auc = _short(config.tasks), metrics["test"]["auc"]
    data = ModelCardData(
        base_model=hub_name(config.model),
        library_name="transformers",
        pipeline_tag="token-classification",
        tags=["reason-envs", "process-reward-model"],
        model_name="Step reward model",
        eval_results=[EvalResult("token-classification", "reason-envs/steps", tasks, "roc_auc", auc)],
    )
    fields = {**_fields(SamplingConfig, config), **_fields(FineTuningConfig, config), "problems": config.problems}
    card = render(
        Path(__file__).with_suffix(".md"),
        front_matter=front_matter(data),
        config=config,
        sources={name: Path(getattr(config, name) or "").name for name in ("labels_from", "further_labels")},
        tasks=tasks,
        engine=_short(config.engine),
        metrics=metrics,
        options="\n".join(f"* {name}: {value!r}" for name, value in fields.items()),
    )
    (folder / CARD).write_text(card)


def _fields(part: type, config: Any) -> dict[str, Any]:
    return {name: getattr(config, name) for name in asdict(part())}


def _short(spec: Any) -> str:
    """Return the configuration of tasks or an engine, or the name of the object."""
    if isinstance(spec, Engine):
        return spec.model_name or type(spec).__name__
    return str(spec) if isinstance(spec, str | Mapping) else spec.name
