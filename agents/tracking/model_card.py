"""Model cards of trained policies for the Hugging Face hub: how to load, command, metrics and configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import StrictUndefined, Template
from omegaconf import OmegaConf

from agents.tracking.metrics_file import Row, read_rows, series
from agents.tracking.run_record import read_record
from reason_envs.llm.embedded import is_embedded

CARD = "README.md"
"""File name of a card on the hub."""
SHOWN = ("eval/accuracy", "eval/greedy_accuracy", "eval/reward", "reward", "accuracy", "kl", "response_length")
"""Metrics of the table, each with its first and its last value."""


def write_cards(folder: Path, run: Path) -> None:
    """Write the card of the final policy of a run, and one card in the folder of each role."""
    config: Any = OmegaConf.load(run / "config.yaml")
    metrics = read_rows(run / "metrics.jsonl")
    roles = sorted(path.name for path in folder.iterdir() if path.is_dir())
    for role in roles:
        (folder / role / CARD).write_text(_card(folder / role, role, config, metrics, run), encoding="utf-8")
    library = _library(folder / roles[0] if roles else folder)
    if roles:
        links = "\n".join(f"* [{role}]({role}/{CARD}): `from_pretrained(..., subfolder={role!r})`" for role in roles)
        text = f"{front_matter(_data(config, metrics, library))}\n# One policy per role\n\n{links}\n"
    else:
        text = _card(folder, "", config, metrics, run)
    (folder / CARD).write_text(text, encoding="utf-8")


def render(template: Path, **values: Any) -> str:
    """Fill values into the template of a card."""
    text = template.read_text(encoding="utf-8")
    layout: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    return Template(text, undefined=StrictUndefined, **layout).render(values)


def front_matter(data: ModelCardData) -> str:
    """Write metadata as the YAML block at the beginning of a card."""
    return f"---\n{data.to_yaml()}\n---\n"


def hub_name(model: str | None) -> str | None:
    """Return the name of a model on the hub; ``None`` for a folder and for a model that ships with the package."""
    if model is None or is_embedded(model) or model.startswith((".", "/", "~")) or Path(model).exists():
        return None
    return model


def _data(config: Any, metrics: Sequence[Row], library: str) -> ModelCardData:
    tasks = str(OmegaConf.select(config, "env.tasks.name") or config.env.tasks)
    accuracy = series(metrics, "eval/accuracy")[1][-1:]
    place = ("text-generation", f"reason-envs/{config.env.name}", tasks, "accuracy")
    return ModelCardData(
        base_model=hub_name(OmegaConf.select(config, "policy.model")),
        library_name=library,
        pipeline_tag="reinforcement-learning" if library == "reason-envs" else "text-generation",
        tags=["reason-envs", "reinforcement-learning", config.algo.name, config.env.name],
        model_name=f"{config.algo.name} on {config.env.name}",
        eval_results=[EvalResult(*place, value, dataset_split="test") for value in accuracy] or None,
    )


def _card(folder: Path, role: str, config: Any, metrics: Sequence[Row], run: Path) -> str:
    library, base = _library(folder), OmegaConf.select(config, "policy.model")
    return render(
        Path(__file__).with_suffix(".md"),
        front_matter=front_matter(_data(config, metrics, library)),
        library=library,
        base=base,
        shipped=is_embedded(str(base)),
        folder="'PATH'" if not role else f"'PATH', subfolder={role!r}",
        role=role,
        config=config,
        commands=[start["command"] for start in read_record(run).get("starts", ()) if start["command"]],
        curves={name: found for name in SHOWN if (found := series(metrics, name))[1]},
        yaml=OmegaConf.to_yaml(config).rstrip(),
    )


def _library(folder: Path) -> str:
    if (folder / "adapter_config.json").exists():
        return "peft"
    return "transformers" if (folder / "tokenizer_config.json").exists() else "reason-envs"
