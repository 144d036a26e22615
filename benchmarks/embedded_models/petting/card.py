"""The model card and ``skills.json`` of the embedded Petting model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.embedded_models.base.card import Phase
from benchmarks.embedded_models.petting.habits import ANSWERS, OPENINGS, PRINTS
from benchmarks.embedded_models.petting.skills import measure_all


def write_card(folder: Path, seed: int, problems: int, phases: list[Phase]) -> None:
    """Evaluate the model in ``folder`` and write ``skills.json`` and ``MODEL_CARD.md`` beside it."""
    skills = {name: asdict(found) for name, found in measure_all(folder, problems, 1.0, seed).items()}
    phase_1 = {name: asdict(found) for name, found in measure_all(folder / "skills", problems, 0.0, seed).items()}
    training = [asdict(phase) for phase in phases]
    facts = {"skills": skills, "phase_1_greedy": phase_1, "problems": problems, "seed": seed, "training": training}
    (folder / "skills.json").write_text(json.dumps(facts, indent=2) + "\n")
    (folder / "MODEL_CARD.md").write_text(card(facts))


def card(facts: dict[str, Any]) -> str:
    """Write the card's text."""
    kinds = "\n".join(
        f"| {kind} | `{words}` | {PRINTS.get(kind, 0):.0%} | {ANSWERS[kind]:.0%} |" for kind, words in OPENINGS.items()
    )
    return f"""# The embedded model of the Petting environments

The embedded base model with all weights trained further and one token for each fixed piece of text. It plays every
role of the five Petting environments at their default difficulty, so that `env=petting_plan_path` and the others learn
at once and offline. A teaching and testing model, of no use as an assistant.

## How it was made

`python -m benchmarks.embedded_models.petting.pretrain --output FOLDER --seed {facts["seed"]}`: decisions of episodes
that scripted roles really play, on problems of the train split. Every figure below is on the test split.

| phase | steps | training tokens | minutes | final loss |
|---|---|---|---|---|
{_costs(facts["training"])}

Phase 1 shows what a careful role does wherever careless ones have led; phase 2 how often each role does what.
The minutes are those of one thread of a machine that was busy with other work.

**Its habits are planted, on purpose.** A role opens with a word that tells the kind of its response, without a look at
the problem; only the careful kind, and taking over what the tool user tried with success, do the job as a rule.

| kind | opening | tool user, coder, tester | planner, reasoner |
|---|---|---|---|
{kinds}

So what reinforcement learning gains here is mostly the choice of kind, and when to take over another role's result:
not new skill in planning, and nothing that should be expected of other models in the same amount.

## What it can do

{facts["problems"]} held-out problems of each environment, temperature 1, four turns. A first decision does the job
where it alone solves the problem (of a tester: the mean mutation score of its tests).
Careful skill: the model after phase 1, most likely tokens.

| environment | success | turns | tokens of a decision | first decisions that do the job | careful skill |
|---|---|---|---|---|---|
{_rows(facts["skills"], facts["phase_1_greedy"])}

Other sizes and wordings than the defaults are outside its training. Licence: that of the package.
"""


def _costs(training: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"| {phase['name']} | {phase['schedule']['steps']} | {phase['tokens'] / 1e6:.1f}M "
        f"| {phase['seconds'] / 60:.1f} | {phase['loss']:.3f} |"
        for phase in training
    )


def _rows(skills: dict[str, Any], careful: dict[str, Any]) -> str:
    return "\n".join(
        f"| {name} | {found['success']:.1%} | {found['turns']:.1f} | {found['tokens']:.0f} | {_roles(found)} "
        f"| {_roles(careful[name])}; success {careful[name]['success']:.1%} |"
        for name, found in skills.items()
    )


def _roles(found: dict[str, Any]) -> str:
    return ", ".join(f"{role} {share:.1%}" for role, share in found["first"].items())
