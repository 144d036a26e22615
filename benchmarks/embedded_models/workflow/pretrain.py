"""Train the embedded model for workflows: ``python -m benchmarks.embedded_models.workflow.pretrain --output FOLDER``.

All weights of the embedded base model are trained on both roles of WorkflowExecution-v0: writing workflows, and
answering for their operators. The tokenizer is that of the base model with one more token for each fixed text.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.embedded_models.base.pretrain import save, train_phase
from benchmarks.embedded_models.base.training import Schedule, Trainer
from benchmarks.embedded_models.workflow.card import write_card
from benchmarks.embedded_models.workflow.demonstrations import WorkflowsAndOperators
from benchmarks.embedded_models.workflow.programs import CAREFUL, HASTY, OPEN, PIECES
from reason_envs.core import derive_seed
from reason_envs.envs.workflow.prompts import prompts
from reason_envs.llm.embedded import path
from reason_envs.tasks.generated import one_line_code
from reason_envs.tasks.generated.fact_qa import KINDS, WORDS

BRIEF = prompts("brief")


@dataclass(frozen=True)
class WorkflowPretrainConfig:
    """Options of the training; they determine the model."""

    seed: int = 0
    """Seed of the demonstrations and the new embeddings."""
    batch_tokens: int = 3072
    """Maximum number of tokens per batch, including padding."""
    schedule: Schedule = field(
        default_factory=lambda: Schedule(steps=2000, warmup=30, decay=700, matrix_lr=0.01, other_lr=0.003)
    )
    """Number of steps and learning rates of the training."""
    problems: int = 512
    """Number of held-out problems in the evaluation."""


_SLOT = re.compile(r" ?\{\w+\}")


def phrases() -> list[str]:
    """Return the fixed texts that become one token each."""
    openings = [BRIEF.ask[name].split("{", 1)[0] for name in BRIEF.ask]
    words = [form for words in WORDS.values() for word in words for form in (f" {word}", word)]
    facts = ["Passage:", "Question:"]
    for text in (f" {text}" for kind in KINDS for text in kind[:2]):
        facts += [piece.rstrip(" .?") for piece in _SLOT.split(text)]
    code = ["def solve():\n    return ", "\n    return ", " that returns ", ", times ", ", plus ", ", minus ", "def "]
    tags = ["<thought>", "</thought>", "<answer>", "</answer>", "Write a function "]
    kinds = [text for kind in one_line_code.KINDS for text in (kind[0], f"({kind[2]})", kind[1])]
    listed = [
        BRIEF.policy.split("{", 1)[0],
        *(f"{line}\n" for line in (*BRIEF.operators.values(), *BRIEF.domains.values())),
    ]
    last = list(BRIEF.operators.values())[-1]
    found = [*PIECES, CAREFUL, OPEN, HASTY, *listed, *openings, *words, *facts, *code, *tags, *kinds, last]
    return [text for text in dict.fromkeys(found) if len(text) > 2]


def add_phrases(tokenizer: Any) -> int:
    """Add a token for each phrase, and return the size of the vocabulary."""
    from tokenizers import AddedToken

    known = set(tokenizer.get_vocab())
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in phrases() if text not in known])
    return len(tokenizer)


def pretrain(output: Path, config: WorkflowPretrainConfig) -> None:
    """Train, evaluate the saved model and write its card."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path())
    model = AutoModelForCausalLM.from_pretrained(path(), dtype=torch.float32)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model.resize_token_embeddings(add_phrases(tokenizer), mean_resizing=False)
    trainer = Trainer(model, config.schedule)
    seed = derive_seed(config.seed, "workflow")
    phase = train_phase("workflow", trainer, tokenizer, WorkflowsAndOperators(), config.batch_tokens, seed)
    save(model, tokenizer, output)
    write_card(output, config.seed, config.problems, phase)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train the embedded model for workflows and write its card.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the model")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default 0)")
    arguments = parser.parse_args()
    pretrain(arguments.output, replace(WorkflowPretrainConfig(), seed=arguments.seed))


if __name__ == "__main__":
    main()
