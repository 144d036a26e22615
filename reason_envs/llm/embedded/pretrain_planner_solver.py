"""Make the embedded planner and solver: ``python -m reason_envs.llm.embedded.pretrain_planner_solver --output FOLDER``.

All weights of the embedded base model are trained on both roles of PlannerSolver-v0: writing guidelines of very
different worth, and following the guideline that is given, good or bad.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path

from reason_envs.core import derive_seed
from reason_envs.llm.embedded import path
from reason_envs.llm.embedded.guidelines import PlannerAndSolver
from reason_envs.llm.embedded.planner_solver_card import write_card
from reason_envs.llm.embedded.pretrain import save, train_phase
from reason_envs.llm.embedded.training import Schedule, Trainer


@dataclass(frozen=True)
class PlannerSolverConfig:
    """Everything that decides what the model becomes."""

    seed: int = 0
    """Keys every demonstration."""
    batch_tokens: int = 3072
    """Most tokens of a batch, padding included."""
    schedule: Schedule = field(
        default_factory=lambda: Schedule(steps=1800, warmup=30, decay=900, matrix_lr=0.015, other_lr=0.002)
    )
    """Steps and learning rates."""
    problems: int = 1024
    """Held-out problems of the evaluation."""


def pretrain(output: Path, config: PlannerSolverConfig) -> None:
    """Train, evaluate what was saved and write its card."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path())
    model = AutoModelForCausalLM.from_pretrained(path(), dtype=torch.float32)
    trainer = Trainer(model, config.schedule)
    seed = derive_seed(config.seed, "planner and solver")
    phase = train_phase("planner and solver", trainer, tokenizer, PlannerAndSolver(), config.batch_tokens, seed)
    save(model, tokenizer, output)
    write_card(output, config.seed, config.problems, phase)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train the embedded planner and solver and write its card.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the model")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    pretrain(arguments.output, replace(PlannerSolverConfig(), seed=arguments.seed))


if __name__ == "__main__":
    main()
