"""The model card of the embedded planner and solver, and the figures in it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.embedded_models.base import evaluation
from benchmarks.embedded_models.base.card import Phase
from benchmarks.embedded_models.base.evaluation import Problem
from benchmarks.embedded_models.planner_solver import guidelines as ours
from reason_envs.core import derive_seed
from reason_envs.envs.prompt_templates import PLANNER_PROMPT, SOLVER_PROMPT, fill
from reason_envs.llm.engine import GenerationRequest, Sampling
from reason_envs.llm.engines.transformers.engine import TransformersEngine

GUIDELINE_TOKENS = 48
"""Most tokens of a guideline that is sampled here."""
METRICS_FILE = "metrics.json"


def write_card(folder: Path, seed: int, problems: int, phases: list[Phase]) -> None:
    """Evaluate the model in ``folder`` on held-out problems and write ``metrics.json`` and ``MODEL_CARD.md`` beside it.

    Args:
        folder: where the model was saved.
        seed: the training's.
        problems: held-out problems.
        phases: what the training cost.
    """
    engine = TransformersEngine(model=str(folder), device="cpu")
    figures = measure(engine, evaluation.default_problems(problems, seed), seed)
    figures |= {
        "training": [asdict(phase) for phase in phases],
        "seed": seed,
        "parameters": engine.model.num_parameters(),
    }
    (folder / METRICS_FILE).write_text(json.dumps(figures, indent=2) + "\n")
    (folder / "MODEL_CARD.md").write_text(card(figures))


def measure(engine: TransformersEngine, problems: list[Problem], seed: int) -> dict[str, Any]:
    """Measure the solver under each kind of guideline, on short and on long sums, and under the untrained planner's."""
    rng = Random(derive_seed(seed, "card"))
    kinds = [kind for kind in ours.WORDINGS if kind != "stated"]
    by_kind = {kind: solve(engine, problems, [rng.choice(ours.WORDINGS[kind]) for _ in problems]) for kind in kinds}
    is_long = [ours.terms(expression_of(problem)) >= ours.LONG for problem in problems]
    table = {kind: _by_length(right, is_long) for kind, right in by_kind.items()}
    best = [by_kind[ours.best_kind(expression_of(p))][i] for i, p in enumerate(problems)]
    written = write_guidelines(engine, problems, seed)
    counts = Counter(kind_of(text) for text in written)
    return {
        "problems": len(problems),
        "solver": table,
        "best_for_each_length": round(sum(best) / len(best), 4),
        "untrained_planner": {
            "solver_right": round(sum(solve(engine, problems, written)) / len(problems), 4),
            "kinds": {kind: round(counts[kind] / len(problems), 4) for kind in [*ours.WORDINGS, "other"]},
        },
    }


def solve(engine: TransformersEngine, problems: list[Problem], guidelines: list[str]) -> list[bool]:
    """Return whether the solver's most likely answer to each problem is right, given its guideline."""
    prompts = [fill(SOLVER_PROMPT, question=p.question, guideline=g) for p, g in zip(problems, guidelines, strict=True)]
    asked = [Problem(prompt, problem.answer) for prompt, problem in zip(prompts, problems, strict=True)]
    rows = evaluation.complete(engine, asked, temperature=0.0)
    return [evaluation.is_right(engine.tokenizer, ids, p) for (ids,), p in zip(rows, asked, strict=True)]


def write_guidelines(engine: TransformersEngine, problems: list[Problem], seed: int) -> list[str]:
    """Let the planner write a guideline for each problem, at temperature 1."""
    prompts = [[{"role": "user", "content": fill(PLANNER_PROMPT, question=p.question)}] for p in problems]
    sampling = Sampling(GUIDELINE_TOKENS)
    requests = [GenerationRequest(p, derive_seed(seed, "card", i), sampling) for i, p in enumerate(prompts)]
    return [generation.text for (generation,) in engine.generate_batch(requests)]


def kind_of(guideline: str) -> str:
    """Name the kind that a guideline's text belongs to; ``other`` for a text of its own."""
    for kind, wordings in ours.WORDINGS.items():
        if guideline in wordings:
            return kind
    openings = tuple(wording.split("{")[0] for wording in ours.WORDINGS["stated"])
    return "stated" if guideline.startswith(openings) else "other"


def expression_of(problem: Problem) -> str:
    """Return the sum that a problem of the default task asks for."""
    return problem.question.split(": ", 1)[1].removesuffix(" =")


def _by_length(right: list[bool], is_long: list[bool]) -> dict[str, float]:
    long = [r for r, flag in zip(right, is_long, strict=True) if flag]
    short = [r for r, flag in zip(right, is_long, strict=True) if not flag]
    return {
        "short": round(sum(short) / len(short), 4),
        "long": round(sum(long) / len(long), 4),
        "all": round(sum(right) / len(right), 4),
    }


def card(figures: dict[str, Any]) -> str:
    """Write the card's text."""
    phases, planner = figures["training"], figures["untrained_planner"]
    costs = "\n".join(
        f"| {p['name']} | {p['schedule']['steps']} | {p['tokens'] / 1e6:.1f}M | {p['seconds'] / 60:.1f} "
        f"| {p['loss']:.3f} |"
        for p in phases
    )
    rows = "\n".join(
        f'| {kind} | "{ours.WORDINGS[kind][0]}" | {f["short"]:.1%} | {f["long"]:.1%} | {f["all"]:.1%} '
        f"| {planner['kinds'][kind]:.0%} |"
        for kind, f in figures["solver"].items()
    )
    return f"""# The embedded planner and solver

The embedded base model ({figures["parameters"] / 1e6:.2f}M parameters), all of its weights trained further on the two
roles of PlannerSolver-v0. It writes guidelines for sums (`chain_sum`, 3 to 6 terms of 1 to 2 digits), and it follows
them, good or bad. A teaching and testing model, of no use as an assistant.

## How it was made

`python -m benchmarks.embedded_models.planner_solver.pretrain --output FOLDER --seed {figures["seed"]}`. The
demonstrations are written by `guidelines.py` in that folder; only problems whose text hashes to the train split were
used, and every figure below is on the test split. Phase 2 shapes how often the planner writes what.

| phase | steps | training tokens | minutes | final loss |
|---|---|---|---|---|
{costs}

The minutes are those of one core of a machine that was busy with other work.

**Its habits are planted, on purpose.** As planner it writes every kind of guideline with a fixed probability, without
a look at the problem, a stated answer excepted. As solver it does what it is told; told to work from left to right
it loses the last term of a long sum ({ours.LONG} terms and more), told to group the plus and the minus terms that of a
short one, in {ours.FORGET:.0%} of the demonstrations; told nothing useful it mostly answers at once. So the best
guideline depends on the problem. What reinforcement learning gains here is the choice of guideline: no new
arithmetic, and nothing that could be expected of other models in the same amount.

## What it can do

Share of {figures["problems"]} held-out problems that the solver answers rightly, by its most likely answer:

| guideline | for example | short sums | long sums | all | share of the planner's |
|---|---|---|---|---|---|
{rows}

* A guideline that states an answer: {planner["kinds"]["stated"]:.0%} of the planner's; the solver copies it.
  The leak check pays nothing where that answer is right. Other texts: {planner["kinds"]["other"]:.1%}.
* The untrained planner (temperature 1): {planner["solver_right"]:.1%} of the solver's answers are right.
* The kind that suits each sum's length: {figures["best_for_each_length"]:.1%}.

Other prompts than the defaults of PlannerSolver-v0, other families and other sizes are outside its training.
Licence: that of the package.
"""
