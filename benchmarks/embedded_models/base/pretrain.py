"""Train the embedded base model: ``python -m benchmarks.embedded_models.base.pretrain --output FOLDER --seed 0``.

Phase 1 teaches sums with careful step-by-step solutions. Phase 2 adds slips and hasty answers, as in human text.
The model then has the skill but does not always use it, which leaves room for reinforcement learning.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.embedded_models.base.card import Phase, write_card
from benchmarks.embedded_models.base.curriculum import Batch, Careful, MixedHabits, Source, batches
from benchmarks.embedded_models.base.training import Schedule, Trainer
from reason_envs.core import derive_seed
from reason_envs.llm.embedded import path


@dataclass(frozen=True)
class PretrainConfig:
    """Options of the training; they determine the model."""

    seed: int = 0
    """Seed of the initial weights and the demonstrations."""
    hidden_size: int = 128
    """Size of the hidden states."""
    intermediate_size: int = 384
    """Size of the hidden layer of each MLP."""
    layers: int = 4
    """Number of layers."""
    heads: int = 4
    """Number of query heads with 32 dimensions each."""
    kv_heads: int = 2
    """Number of key and value heads."""
    batch_tokens: int = 3072
    """Maximum number of tokens per batch, including padding."""
    side_share: float = 0.03
    """Share of demonstrations from families besides the default task."""
    side_pool: int = 3000
    """Number of problems drawn from each of those families."""
    skill: Schedule = field(
        default_factory=lambda: Schedule(steps=4250, warmup=100, decay=600, matrix_lr=0.02, other_lr=0.003)
    )
    """Schedule of phase 1, the careful solutions."""
    habits: Schedule = field(
        default_factory=lambda: Schedule(steps=200, warmup=10, decay=150, matrix_lr=0.004, other_lr=0.0006)
    )
    """Schedule of phase 2, the slips and hasty answers."""
    hasty_share: float = 0.45
    """Share of sums in phase 2 that are answered without steps."""
    slip_rate: float = 0.06
    """Probability in phase 2 that a step is wrong."""
    problems: int = 1024
    """Number of held-out problems in the evaluation."""
    samples: int = 8
    """Number of samples per held-out problem."""


def build_model(config: PretrainConfig, tokenizer: Any) -> Any:
    """Return the untrained model."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    shape = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return Qwen3ForCausalLM(shape)


def train_phase(name: str, trainer: Trainer, tokenizer: Any, source: Source, batch_tokens: int, seed: int) -> Phase:
    """Train one phase, print the loss every 50 steps, and return cost and result."""
    started, schedule, tokens = time.monotonic(), trainer.schedule, 0
    recent: list[float] = []

    def counted() -> Iterator[Batch]:
        nonlocal tokens
        for batch in batches(source, tokenizer, 0, schedule.steps, batch_tokens, seed):
            tokens += batch.tokens.numel()
            yield batch

    for step, latest in enumerate(trainer.run(counted()), 1):
        recent = [*recent[-49:], latest]
        if step % 50 == 0 or step == schedule.steps:
            rate = tokens / (time.monotonic() - started)
            loss = sum(recent) / len(recent)
            print(f"{name} step {step}/{schedule.steps} loss {loss:.4f} {rate:.0f} tokens/s", flush=True)
    return Phase(name, schedule, tokens, time.monotonic() - started, sum(recent) / len(recent))


def save(model: Any, tokenizer: Any, output: Path) -> None:
    """Save weights in bf16, configuration and tokenizer. The model in memory keeps its precision."""
    import copy

    import torch

    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)


def pretrain(output: Path, config: PretrainConfig, device: str) -> None:
    """Run both phases, evaluate the saved model and write its card."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path())
    model = build_model(config, tokenizer).to(device)
    careful = Careful(config.seed, config.side_share, config.side_pool)
    trainer = Trainer(model, config.skill)
    phases = [train_phase("skill", trainer, tokenizer, careful, config.batch_tokens, config.seed)]
    save(model, tokenizer, output / "skill")
    mixed = MixedHabits(careful, config.hasty_share, config.slip_rate)
    trainer, seed = Trainer(model, config.habits), derive_seed(config.seed, "habits")
    phases.append(train_phase("habits", trainer, tokenizer, mixed, config.batch_tokens, seed))
    save(model, tokenizer, output)
    write_card(output, config, phases)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Pre-train the embedded base model, evaluate it and write its card.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the model; skill/ is for phase 1")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default 0)")
    parser.add_argument("--device", default="cpu", help="cpu (default; used for the model of the package) or cuda")
    arguments = parser.parse_args()
    pretrain(arguments.output, replace(PretrainConfig(), seed=arguments.seed), arguments.device)


if __name__ == "__main__":
    main()
