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
    """Return the text of the card."""
    kinds = "\n".join(
        f"| {kind} | `{words}` | {PRINTS.get(kind, 0):.0%} | {ANSWERS[kind]:.0%} |" for kind, words in OPENINGS.items()
    )
    return f"""# The embedded model of the Petting environments

The embedded base model after further training of all its weights, with one token for each fixed text. It plays every
role of the five Petting environments at their default difficulty, so that `env=petting_plan_path` and the others run
offline without a download. It is for teaching and testing, not for use as an assistant.

## How it was made

`python -m benchmarks.embedded_models.petting.pretrain --output FOLDER --seed {facts["seed"]}` trained it on decisions
of episodes that scripted roles play, with problems of the train split. All results below are on the test split.

| phase | steps | training tokens | minutes | final loss |
|---|---|---|---|---|
{_costs(facts["training"])}

Phase 1 teaches the decisions of a careful role in states that careless roles reach. Phase 2 sets how often each role
writes each kind of response. The minutes were measured on one thread of a machine that was busy with other work.

**The model was trained to have bad habits on purpose.** A response starts with a word that names its kind, and the
choice of the kind does not depend on the problem. Usually only two kinds succeed: the careful one, and the copy of a
plan that the tool user has tried with success.

| kind | opening | tool user, coder, tester | planner, reasoner |
|---|---|---|---|
{kinds}

So reinforcement learning on this model mostly learns which kind of response to choose, and when to copy the result of
another role. It does not learn new planning skill, and other models should not be expected to gain as much.

## What it can do

{facts["problems"]} held-out problems per environment, temperature 1, four turns. The first decision of a role succeeds
if it solves the problem alone; for a tester it is the mean mutation score of its tests.
Careful skill: the model after phase 1 with greedy decoding.

| environment | success | turns | tokens per decision | successful first decisions | careful skill |
|---|---|---|---|---|---|
{_rows(facts["skills"], facts["phase_1_greedy"])}

The model was not trained on other sizes and wordings than the defaults. Licence: that of the package.
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
