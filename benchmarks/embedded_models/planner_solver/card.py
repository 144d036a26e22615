"""The model card of the embedded planner and solver, and its metrics."""

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
"""Maximum number of tokens of a sampled guideline."""
METRICS_FILE = "metrics.json"


def write_card(folder: Path, seed: int, problems: int, phases: list[Phase]) -> None:
    """Evaluate the model in ``folder`` on held-out problems and write ``metrics.json`` and ``MODEL_CARD.md`` beside it.

    Args:
        folder: folder of the saved model.
        seed: seed of the training.
        problems: number of held-out problems.
        phases: cost and result of each training phase.
    """
    engine = TransformersEngine(model=str(folder), device="cpu")
    metrics = measure(engine, evaluation.default_problems(problems, seed), seed)
    metrics |= {
        "training": [asdict(phase) for phase in phases],
        "seed": seed,
        "parameters": engine.model.num_parameters(),
    }
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2) + "\n")
    (folder / "MODEL_CARD.md").write_text(card(metrics))


def measure(engine: TransformersEngine, problems: list[Problem], seed: int) -> dict[str, Any]:
    """Measure the solver with each kind of guideline on short and long sums, and with the untrained planner."""
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
    """Return whether the greedy answer of the solver to each problem is correct, given its guideline."""
    prompts = [fill(SOLVER_PROMPT, question=p.question, guideline=g) for p, g in zip(problems, guidelines, strict=True)]
    asked = [Problem(prompt, problem.answer) for prompt, problem in zip(prompts, problems, strict=True)]
    rows = evaluation.complete(engine, asked, temperature=0.0)
    return [evaluation.is_right(engine.tokenizer, ids, p) for (ids,), p in zip(rows, asked, strict=True)]


def write_guidelines(engine: TransformersEngine, problems: list[Problem], seed: int) -> list[str]:
    """Sample a guideline of the planner for each problem at temperature 1."""
    prompts = [[{"role": "user", "content": fill(PLANNER_PROMPT, question=p.question)}] for p in problems]
    sampling = Sampling(GUIDELINE_TOKENS)
    requests = [GenerationRequest(p, derive_seed(seed, "card", i), sampling) for i, p in enumerate(prompts)]
    return [generation.text for (generation,) in engine.generate_batch(requests)]


def kind_of(guideline: str) -> str:
    """Return the kind of a guideline, or ``other``."""
    for kind, wordings in ours.WORDINGS.items():
        if guideline in wordings:
            return kind
    openings = tuple(wording.split("{")[0] for wording in ours.WORDINGS["stated"])
    return "stated" if guideline.startswith(openings) else "other"


def expression_of(problem: Problem) -> str:
    """Return the sum in a problem of the default task."""
    return problem.question.split(": ", 1)[1].removesuffix(" =")


def _by_length(right: list[bool], is_long: list[bool]) -> dict[str, float]:
    long = [r for r, flag in zip(right, is_long, strict=True) if flag]
    short = [r for r, flag in zip(right, is_long, strict=True) if not flag]
    return {
        "short": round(sum(short) / len(short), 4),
        "long": round(sum(long) / len(long), 4),
        "all": round(sum(right) / len(right), 4),
    }


def card(metrics: dict[str, Any]) -> str:
    """Return the text of the card."""
    phases, planner = metrics["training"], metrics["untrained_planner"]
    costs = "\n".join(
        f"| {p['name']} | {p['schedule']['steps']} | {p['tokens'] / 1e6:.1f}M | {p['seconds'] / 60:.1f} "
        f"| {p['loss']:.3f} |"
        for p in phases
    )
    rows = "\n".join(
        f'| {kind} | "{ours.WORDINGS[kind][0]}" | {f["short"]:.1%} | {f["long"]:.1%} | {f["all"]:.1%} '
        f"| {planner['kinds'][kind]:.0%} |"
        for kind, f in metrics["solver"].items()
    )
    return f"""# The embedded planner and solver

The embedded base model ({metrics["parameters"] / 1e6:.2f}M parameters) after further training of all its weights on
both roles of PlannerSolver-v0. It writes guidelines for sums (`chain_sum`, 3 to 6 terms of 1 to 2 digits), and it
follows guidelines, good or bad. It is for teaching and testing, not for use as an assistant.

## How it was made

`python -m benchmarks.embedded_models.planner_solver.pretrain --output FOLDER --seed {metrics["seed"]}` trained it. The
script `guidelines.py` in the same folder writes the demonstrations. Only problems that belong to the train split, by
the hash of their text, were used for training. All results below are on the test split. Phase 2 sets how often the
planner writes each kind of guideline.

| phase | steps | training tokens | minutes | final loss |
|---|---|---|---|---|
{costs}

The minutes were measured on one core of a machine that was busy with other work.

**The model was trained to have bad habits on purpose.** As the planner it writes each kind of guideline with a fixed
probability that does not depend on the problem. As the solver it follows the guideline. If it must work from left to
right, it omits the last term of a long sum ({ours.LONG} or more terms) in {ours.FORGET:.0%} of the demonstrations. If
it must group the plus and minus terms, it does the same with a short sum. Without a useful guideline it mostly answers
without steps. So the best guideline depends on the problem. Reinforcement learning on this model learns which guideline
to choose. It does not learn new arithmetic, and other models should not be expected to gain as much.

## What it can do

Share of {metrics["problems"]} held-out problems that the solver answers correctly with greedy decoding:

| guideline | example | short sums | long sums | all sums | share of the planner's guidelines |
|---|---|---|---|---|---|
{rows}

* {planner["kinds"]["stated"]:.0%} of the planner's guidelines state an answer, which the solver copies. If the stated
  answer is correct, the leak check sets the reward to 0. {planner["kinds"]["other"]:.1%} are other texts.
* With guidelines of the planner before reinforcement learning (temperature 1), the solver is correct in
  {planner["solver_right"]:.1%}.
* With the best kind of guideline for the length of each sum, the solver is correct in
  {metrics["best_for_each_length"]:.1%}.

The model was not trained on other prompts than the defaults of PlannerSolver-v0, other families or other sizes.
Licence: that of the package.
"""
