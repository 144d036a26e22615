"""The model card and ``skills.json`` of the embedded base model: its data, its training and its skills."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.embedded_models.base import evaluation
from benchmarks.embedded_models.base.curriculum import SIDE_FAMILIES
from benchmarks.embedded_models.base.demonstrations import DIGITS, TERMS
from benchmarks.embedded_models.base.training import Schedule
from reason_envs.llm.engines.transformers.engine import TransformersEngine

if TYPE_CHECKING:
    from benchmarks.embedded_models.base.pretrain import PretrainConfig


@dataclass(frozen=True)
class Phase:
    """Cost and result of one training phase."""

    name: str
    """Name of the phase, such as ``skill`` or ``habits``."""
    schedule: Schedule
    """Number of steps and learning rates of the phase."""
    tokens: int
    """Number of training tokens, including padding."""
    seconds: float
    """Wall-clock time of the phase in seconds."""
    loss: float
    """Mean loss of the last 50 steps."""


def measure_skills(folder: Path, problems: int, samples: int, seed: int = 0) -> dict[str, Any]:
    """Measure the saved model and the model of phase 1, in the subfolder ``skill``, on held-out problems.

    Args:
        folder: folder of the saved model.
        problems: number of held-out problems of the default task; other families get a quarter.
        samples: number of samples per problem.
        seed: seed of the problems and the samples.
    """
    engine = TransformersEngine(model=str(folder), device="cpu")
    phase_1 = TransformersEngine(model=str(folder / "skill"), device="cpu")
    sums = evaluation.default_problems(problems, seed)
    openings = [evaluation.careful_opening(p) for p in sums]
    families = {"chain_sum": evaluation.measure(engine, sums, samples, seed).as_dict()}
    careful = {
        "greedy": evaluation.greedy_accuracy(engine, openings),
        "sampled": evaluation.measure(engine, openings, 1, seed).sampled,
        "phase_1_greedy": evaluation.greedy_accuracy(phase_1, sums),
    }
    for family in SIDE_FAMILIES:
        held_out = evaluation.family_problems(family, problems // 4, seed)
        families[family] = evaluation.measure(engine, held_out, samples, seed).as_dict()
    return {"families": families, "careful_mode": {k: round(v, 4) for k, v in careful.items()}}


def write_card(folder: Path, config: PretrainConfig, phases: list[Phase]) -> None:
    """Evaluate the model in ``folder`` and write ``skills.json`` and ``MODEL_CARD.md`` beside it."""
    skills = measure_skills(folder, config.problems, config.samples)
    model = TransformersEngine(model=str(folder), device="cpu").model
    facts = {
        "parameters": model.num_parameters(),
        "vocabulary": model.config.vocab_size,
        "training": [asdict(phase) for phase in phases],
        "settings": {k: v for k, v in asdict(config).items() if not isinstance(v, dict)},
    }
    (folder / "skills.json").write_text(json.dumps({**skills, **facts}, indent=2) + "\n")
    (folder / "MODEL_CARD.md").write_text(card(skills, facts))


def card(skills: dict[str, Any], facts: dict[str, Any]) -> str:
    """Return the text of the card from the measured skills and the facts of the training."""
    settings, careful, main = facts["settings"], skills["careful_mode"], skills["families"]["chain_sum"]
    size = f"{facts['parameters'] / 1e6:.2f}M parameters"
    shape = f"{settings['layers']} layers of {settings['hidden_size']}, {settings['heads']} heads of 32"
    sizes = f"{TERMS[0]} to {TERMS[1]} terms of {DIGITS[0]} to {DIGITS[1]} digits"
    return f"""# The embedded base model

A tiny causal language model (Qwen3 architecture, {size}, {shape},
vocabulary {facts["vocabulary"]}, bf16). It is part of the package, so that every environment and learner runs
offline on a CPU without a download. It is for teaching and testing, not for use as an assistant.

## How it was made

`python -m benchmarks.embedded_models.base.pretrain --output FOLDER --seed {settings["seed"]}` trained it from scratch
with the defaults of that script. The data are problems of reasoning-gym with worked solutions that `demonstrations.py`
writes (for gsm_symbolic: the cleaned solutions of reasoning-gym). No other data were used.
Only problems that belong to the train split, by the hash of their text, were used for training. All results below are
on the test split.

| phase | content | steps | training tokens | minutes | final loss |
|---|---|---|---|---|---|
{_training_table(facts["training"])}

Phase 1 teaches careful solutions: one running sum per line, then `\\boxed{{answer}}`. Short problems and single sums
are more frequent at the start. {settings["side_share"]:.0%} of the examples are products, leg counting and gsm_symbolic
word problems.

**Phase 2 makes the model worse on purpose.** {settings["hasty_share"]:.0%} of the demonstrations answer without any
step. In the others, each step is wrong with probability {settings["slip_rate"]:.0%} (off by one, two or ten, or with
the wrong sign), and the next steps continue from the wrong result. Human text mixes haste and care in a similar way.
Batches contain answers of similar length, and every batch has the same weight. So a token of a short hasty answer has a
larger weight than a token of a long careful answer, and the model is hastier than its demonstrations (see the mean
tokens below).
As a result, the model has a skill that it does not always use. The gain of a short reinforcement learning run on this
model mostly comes from using this skill more often. It is not new arithmetic, and other models should not be expected
to gain as much.

## What it can do

Default task: reasoning-gym `chain_sum`, {sizes} ({main["problems"]} held-out problems).
Other families: {_settings_of_families()},
with {", ".join(str(skills["families"][name]["problems"]) for name in SIDE_FAMILIES)} held-out problems.
Samples are drawn at temperature 1, {main["samples"]} per problem.

| family | sampled | pass@{main["samples"]} | greedy | well formed | tokens |
|---|---|---|---|---|---|
{_skill_table(skills["families"])}

* Careful mode (the answer starts with the first term of the sum, so that the model works in steps):
  {careful["greedy"]:.1%} greedy, {careful["sampled"]:.1%} sampled.
* The model after phase 1, greedy: {careful["phase_1_greedy"]:.1%}.
* Well formed: the sample ends with the end-of-turn token and has exactly one boxed number, in its last line.
* Prompts: one user message and no system prompt.
  The model was not trained on other wordings, longer sums, larger numbers or other languages.

## Files

`config.json`, `generation_config.json`, `model.safetensors` (bf16), `tokenizer.json`, `tokenizer_config.json`,
`chat_template.jinja`, `skills.json` (all results above). The tokenizer is byte-level BPE. Digits and symbols are
single tokens, `\\boxed{{` and the fixed wording of the families are one token each, and there are spare role markers.
Licence: that of the package.
"""


def _settings_of_families() -> str:
    return ", ".join(
        f"{name} ({', '.join(f'{k}={v}' for k, v in options.items()) or 'defaults'})"
        for name, options in SIDE_FAMILIES.items()
    )


def _training_table(phases: list[dict[str, Any]]) -> str:
    content = {"skill": "careful solutions", "habits": "slips and hasty answers"}
    return "\n".join(
        f"| {p['name']} | {content[p['name']]} | {p['schedule']['steps']} | {p['tokens'] / 1e6:.1f}M "
        f"| {p['seconds'] / 60:.1f} | {p['loss']:.3f} |"
        for p in phases
    )


def _skill_table(families: dict[str, dict[str, float]]) -> str:
    return "\n".join(
        f"| {name} | {s['sampled']:.1%} | {s['pass_at_k']:.1%} | {s['greedy']:.1%} "
        f"| {s['well_formed']:.1%} | {s['mean_tokens']:.0f} |"
        for name, s in families.items()
    )
