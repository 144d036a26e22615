"""The cards of what a run trained, as the Hugging Face hub reads them: configuration, metrics, command, how to load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from omegaconf import OmegaConf

from agents.tracking.metrics_file import Row, read_rows, series

CARD = "README.md"
"""A card's file, where the hub looks for it."""
COMMAND = "command.txt"
"""The commands of a run, in its folder: the one that began it, and those that resumed it."""
SHOWN = ("eval/accuracy", "eval/greedy_accuracy", "eval/reward", "reward", "accuracy", "kl", "response_length")
"""Metrics of the table: at the first and at the last step that has them."""
LOADING = {
    "peft": """from peft import PeftModel
{more}from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained({base})
model = PeftModel.from_pretrained(base, {folder})
tokenizer = AutoTokenizer.from_pretrained({folder})""",
    "transformers": """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({folder})
tokenizer = AutoTokenizer.from_pretrained({folder})""",
    "graph": """from pathlib import Path

import reason_envs
from agents.policies.graph import GraphPolicy

environment = reason_envs.make_environment({env!r})
policy = GraphPolicy.from_pretrained(Path({folder}), environment=environment)""",
}
"""What loads a folder, by the library that it is for, or by the policy where only this package has its class."""


def write_cards(folder: Path, run: Path) -> None:
    """Write the card of a run's final policy, and one in the folder of each role.

    Args:
        folder: of the final policy.
        run: the run folder, with configuration, metrics and commands.
    """
    config: Any = OmegaConf.load(run / "config.yaml")
    metrics = read_rows(run / "metrics.jsonl")
    roles = sorted(path.name for path in folder.iterdir() if path.is_dir())
    for role in roles:
        (folder / role / CARD).write_text(_card(folder / role, role, config, metrics, run), encoding="utf-8")
    library = _library(folder / roles[0] if roles else folder)
    if roles:
        links = "\n".join(f"* [{role}]({role}/{CARD}): `from_pretrained(..., subfolder={role!r})`" for role in roles)
        text = f"{front_matter(_data(config, metrics, library))}\n# A policy for each role\n\n{links}\n"
    else:
        text = _card(folder, "", config, metrics, run)
    (folder / CARD).write_text(text, encoding="utf-8")


def front_matter(data: ModelCardData) -> str:
    """Write metadata as the hub's YAML at a card's beginning."""
    return f"---\n{data.to_yaml()}\n---\n"


def hub_name(model: str | None) -> str | None:
    """Return a model's name where the hub knows it: not a folder's, nor that of one that ships with the package."""
    if model is None or model.startswith((".", "/", "~", "embedded")) or Path(model).exists():
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
    where = repr("PATH") if not role else f"{'PATH'!r}, subfolder={role!r}"
    loading = LOADING.get(library, LOADING.get(config.policy.name, "# as agents.training.build.load_run does"))
    # The base of an adapter that ships with the package is nowhere else.
    shipped = str(base).startswith("embedded")
    base_path = f"model_path({base!r})" if shipped else repr(base)
    more = "from reason_envs.llm.loading import model_path\n" if shipped else ""
    title = f"{config.algo.name} on {config.env.name}{f', the role {role}' if role else ''}"
    what = {
        "peft": f"A LoRA adapter on `{base}`",
        "transformers": f"A causal language model, trained from `{base}`",
    }.get(library, f"A policy of the kind `{config.policy.name}`")
    return f"""{front_matter(_data(config, metrics, library))}
# {title}

{what}, trained by reason-envs with `{config.algo.name}` in the environment `{config.env.name}`.

## Use

```python
{loading.format(base=base_path, more=more, folder=where, env=config.env.name)}
```

## Command

```bash
{_commands(run)}
```

## Metrics

{_table(metrics)}

## Configuration

```yaml
{OmegaConf.to_yaml(config).rstrip()}
```
"""


def _library(folder: Path) -> str:
    if (folder / "adapter_config.json").exists():
        return "peft"
    return "transformers" if (folder / "tokenizer_config.json").exists() else "reason-envs"


def _commands(run: Path) -> str:
    path = run / COMMAND
    return path.read_text(encoding="utf-8").rstrip() if path.exists() else "# from Python, with the configuration below"


def _table(metrics: Sequence[Row]) -> str:
    lines = ["| metric | first | last |", "|---|---|---|"]
    for name in SHOWN:
        steps, values = series(metrics, name)
        if values:
            lines.append(f"| {name} | {values[0]:.4g} (step {steps[0]:g}) | {values[-1]:.4g} (step {steps[-1]:g}) |")
    return "\n".join(lines)
