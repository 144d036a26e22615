"""Train the embedded Petting model: ``python -m benchmarks.embedded_models.petting.pretrain --output FOLDER``.

All weights of the embedded base model are trained on every role of the five Petting environments. Phase 1 teaches the
decisions of a careful role in states that careless roles reach. Phase 2 sets how often each role writes each kind of
response. The tokenizer is that of the base model with one more token for each fixed text.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.embedded_models.base.card import Phase
from benchmarks.embedded_models.base.pretrain import save, train_phase
from benchmarks.embedded_models.base.training import Schedule, Trainer
from benchmarks.embedded_models.petting.card import write_card
from benchmarks.embedded_models.petting.demonstrations import PettingEpisodes, environments
from benchmarks.embedded_models.petting.habits import OPENINGS
from reason_envs.core import derive_seed
from reason_envs.llm.embedded import path

PIECES = (
    "\n= ", " no goal", " goal", " solved", "0/1 on goals", " blocked", " in conflict", " empty", " pass", "; f(",
    " gave ", " raised no answer", "not what the program printed", 'print("', "print(", '")', "######\n",
    "def f(x):\n    return ", "max(", "min(", "assert f(", ") == ", "f(x): x, ", "plus ", "minus ", "times ",
    "at least ", "at most ", "remainder by ", "error: SyntaxError: missing closing quote in string literal",
    "error: SyntaxError: unexpected EOF while parsing",
)  # fmt: skip
"""Further fixed texts of observations and responses."""


@dataclass(frozen=True)
class PettingPretrainConfig:
    """Options of the training; they determine the model."""

    seed: int = 0
    """Seed of the demonstrations and the new embeddings."""
    batch_tokens: int = 3072
    """Maximum number of tokens per batch, including padding."""
    careful: float = 0.85
    """Share of decisions in phase 1 that have the best response."""
    skills: Schedule = field(
        default_factory=lambda: Schedule(steps=3000, warmup=30, decay=1200, matrix_lr=0.015, other_lr=0.003)
    )
    """Schedule of phase 1, the careful decisions."""
    habits: Schedule = field(
        default_factory=lambda: Schedule(steps=150, warmup=5, decay=120, matrix_lr=0.003, other_lr=0.0006)
    )
    """Schedule of phase 2, the habits."""
    problems: int = 512
    """Number of held-out problems in the evaluation."""


def phrases() -> list[str]:
    """Return the fixed texts that become one token each."""
    envs = environments("train")
    systems = [text for env in envs for text in env.prompts.values()]
    openings = [form for words in OPENINGS.values() for form in (f"# {words}\n", f"{words}: ")]
    roles = list(dict.fromkeys(role for env in envs for role in env.roles))
    headers = [f"{role} {turn}/4\n" for role in roles for turn in range(1, 5)]
    speakers = [f"\n{role}: " for role in roles]
    return [*systems, *openings, *headers, *speakers, *PIECES]


def pretrain(output: Path, config: PettingPretrainConfig) -> None:
    """Train both phases, evaluate the saved model and write its card."""
    import torch
    from tokenizers import AddedToken
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path())
    known = set(tokenizer.get_vocab())
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in phrases() if text not in known])
    model = AutoModelForCausalLM.from_pretrained(path(), dtype=torch.float32)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    phases: list[Phase] = []
    for name, schedule, best in (("skills", config.skills, config.careful), ("habits", config.habits, 0.0)):
        seed, trainer = derive_seed(config.seed, "petting", name), Trainer(model, schedule)
        phases.append(train_phase(name, trainer, tokenizer, PettingEpisodes(best), config.batch_tokens, seed))
        save(model, tokenizer, output / "skills" if name == "skills" else output)
    write_card(output, config.seed, config.problems, phases)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train the embedded Petting model and write its card.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the model; skills/ is for phase 1")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default 0)")
    arguments = parser.parse_args()
    pretrain(arguments.output, replace(PettingPretrainConfig(), seed=arguments.seed))


if __name__ == "__main__":
    main()
