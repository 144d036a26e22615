"""Train planner and solver: ``python -m benchmarks.embedded_models.planner_solver.pretrain --output FOLDER``.

All weights of the embedded base model are trained on both roles of PlannerSolver-v0: writing guidelines of different
quality, and following a given guideline, good or bad. Phase 1 teaches both roles. Phase 2 sets how often the planner
writes each kind of guideline.
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
    """Options of the training; they determine the model."""

    seed: int = 0
    """Seed of the demonstrations."""
    batch_tokens: int = 3072
    """Maximum number of tokens per batch, including padding."""
    skills: Schedule = field(
        default_factory=lambda: Schedule(steps=1800, warmup=30, decay=900, matrix_lr=0.015, other_lr=0.002)
    )
    """Schedule of phase 1, which mostly trains the solver."""
    habits: Schedule = field(
        default_factory=lambda: Schedule(steps=100, warmup=5, decay=80, matrix_lr=0.003, other_lr=0.0005)
    )
    """Schedule of phase 2, which sets the habits of the planner."""
    problems: int = 1024
    """Number of held-out problems in the evaluation."""


def pretrain(output: Path, config: PlannerSolverConfig) -> None:
    """Train both phases, the second from the saved model of the first, evaluate the result and write its card."""
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
        name: name of the phase.
        start: folder of the initial model.
        output: folder for the trained model.
        source: source of the demonstrations.
        schedule: number of steps and learning rates.
        batch_tokens: maximum number of tokens per batch.
        seed: seed of the training.
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
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train the embedded planner and solver and write its card.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the model; skills/ is for phase 1")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default 0)")
    arguments = parser.parse_args()
    pretrain(arguments.output, replace(PlannerSolverConfig(), seed=arguments.seed))


if __name__ == "__main__":
    main()
