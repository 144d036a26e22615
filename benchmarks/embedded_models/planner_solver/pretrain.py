"""Train planner and solver: ``python -m benchmarks.embedded_models.planner_solver.pretrain --output FOLDER``.

All weights of the embedded base model are trained on both roles of PlannerSolver-v0: writing guidelines of very
different worth, and following the guideline that is given, good or bad. Phase 1 teaches both, phase 2 shapes how often
the planner writes what.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.embedded_models.base.card import Phase
from benchmarks.embedded_models.base.curriculum import Source
from benchmarks.embedded_models.base.pretrain import save, train_phase
from benchmarks.embedded_models.base.training import Schedule, Trainer
from benchmarks.embedded_models.planner_solver.card import write_card
from benchmarks.embedded_models.planner_solver.guidelines import HABITS, SKILLS, PlannerAndSolver
from reason_envs.core import derive_seed
from reason_envs.llm.embedded import path


@dataclass(frozen=True)
class PlannerSolverConfig:
    """Everything that decides what the model becomes."""

    seed: int = 0
    """Keys every demonstration."""
    batch_tokens: int = 3072
    """Most tokens of a batch, padding included."""
    skills: Schedule = field(
        default_factory=lambda: Schedule(steps=1800, warmup=30, decay=900, matrix_lr=0.015, other_lr=0.002)
    )
    """Schedule of phase 1: both roles, the solver above all."""
    habits: Schedule = field(
        default_factory=lambda: Schedule(steps=100, warmup=5, decay=80, matrix_lr=0.003, other_lr=0.0005)
    )
    """Schedule of phase 2: how often the planner writes what."""
    problems: int = 1024
    """Held-out problems of the evaluation."""


def pretrain(output: Path, config: PlannerSolverConfig) -> None:
    """Train both phases, the second from what the first has saved, evaluate the result and write its card."""
    skills, seed = output / "skills", config.seed
    phases = [
        train("skills", path(), skills, PlannerAndSolver(SKILLS), config.skills, config.batch_tokens, seed),
        train("habits", skills, output, PlannerAndSolver(HABITS), config.habits, config.batch_tokens, seed),
    ]
    write_card(output, config.seed, config.problems, phases)


def train(
    name: str, start: Path, output: Path, source: Source, schedule: Schedule, batch_tokens: int, seed: int
) -> Phase:
    """Train one phase.

    Args:
        name: of the phase.
        start: folder of the model it begins with.
        output: folder that gets the trained model.
        source: draws the demonstrations.
        schedule: steps and learning rates.
        batch_tokens: most tokens of a batch.
        seed: the training's.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(start)
    model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    keyed = derive_seed(seed, "planner and solver" if name == "skills" else name)
    phase = train_phase(name, Trainer(model, schedule), tokenizer, source, batch_tokens, keyed)
    save(model, tokenizer, output)
    return phase


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train the embedded planner and solver and write its card.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the model; skills/ in it gets phase 1's")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    pretrain(arguments.output, replace(PlannerSolverConfig(), seed=arguments.seed))


if __name__ == "__main__":
    main()
