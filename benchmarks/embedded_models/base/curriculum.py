"""Training data of the embedded model in their order: batches of demonstrations of similar length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from benchmarks.embedded_models.base import demonstrations as demo
from benchmarks.embedded_models.base.demonstrations import QUESTION, Demonstration
from reason_envs.core import derive_seed
from reason_envs.tasks.base import split_of

if TYPE_CHECKING:
    from torch import Tensor

SIDE_FAMILIES: dict[str, dict[str, int]] = {
    "products": {"min_digits": 1, "max_digits": 2},
    "leg_counting": {"min_animals": 2, "max_animals": 4},
    "gsm_symbolic": {},
}
"""Options of the families of reasoning-gym besides the default task."""
WARMUP_STEPS = 1000
"""Number of training steps of phase 1 over which the default task replaces short problems."""
MAX_TOKENS = 320
"""Maximum length of a demonstration in tokens; longer ones are left out."""
POOL = 10
"""Number of batches whose demonstrations are drawn together and sorted by length."""


@dataclass(frozen=True)
class Batch:
    """Demonstrations of similar length, padded on the right."""

    tokens: Tensor
    """Token ids, [B, T]."""
    targets: Tensor
    """Next token if it belongs to a solution, otherwise -100, [B, T]."""


class Source(Protocol):
    """Source of the demonstrations of a phase."""

    def draw(self, rng: Random, step: int) -> Demonstration:
        """Return a demonstration for the batches near a training step."""
        ...


class Careful:
    """Phase 1: sums solved step by step (short ones first), single steps with all numbers, and other families."""

    def __init__(self, seed: int, side_share: float, side_pool: int) -> None:
        """Prepare the demonstrations of other families.

        Args:
            seed: seed of the problems.
            side_share: share of demonstrations from other families.
            side_pool: number of problems per other family.
        """
        self.side_share = side_share
        self.side = side_demonstrations("train", side_pool, seed)

    def draw(self, rng: Random, step: int) -> Demonstration:
        """Return a demonstration for the batches near a training step."""
        if rng.random() < self.side_share:
            return rng.choice(self.side)
        return sum_demonstration(self._expression(rng, step / WARMUP_STEPS), demo.careful)

    def _expression(self, rng: Random, progress: float) -> str:
        if rng.random() < max(0.15, 0.4 * (1 - progress)):
            return f"{rng.randint(-300, 400)} {rng.choice('+-')} {rng.randint(0, 99)}"
        if rng.random() < 0.6 * (1 - progress):
            return demo.chain_sum_expression(rng, (2, 3), (1, 2))
        return demo.chain_sum_expression(rng)


class MixedHabits:
    """Phase 2: the default task solved step by step with slips, or hastily without steps."""

    def __init__(self, careful: Careful, hasty_share: float, slip_rate: float) -> None:
        """Store the shares.

        Args:
            careful: source of phase 1, for the other families.
            hasty_share: share of sums that are answered without steps.
            slip_rate: probability that a step is wrong.
        """
        self.careful, self.hasty_share, self.slip_rate = careful, hasty_share, slip_rate

    def draw(self, rng: Random, step: int) -> Demonstration:
        """Return a demonstration. The mixture is the same at every step."""
        if rng.random() < self.careful.side_share:
            return rng.choice(self.careful.side)
        expression = demo.chain_sum_expression(rng)
        if rng.random() < self.hasty_share:
            return sum_demonstration(expression, demo.hasty)
        return sum_demonstration(expression, lambda e: demo.slipping(e, rng, self.slip_rate))


def sum_demonstration(expression: str, solve: Callable[[str], str]) -> Demonstration:
    """Return a sum in the wording of the default task with its solution."""
    return Demonstration("chain_sum", QUESTION.format(expression=expression), solve(expression))


def side_demonstrations(split: str, size: int, seed: int) -> list[Demonstration]:
    """Return solved problems of the other families in a split."""
    found = [d for family in SIDE_FAMILIES for d in family_demonstrations(family, size, seed)]
    return [d for d in found if split_of(d.question) == split]


def family_demonstrations(family: str, size: int, seed: int) -> list[Demonstration]:
    """Draw problems of another family, of both splits, with their worked solutions."""
    import reasoning_gym

    solve: dict[str, Callable[[dict[str, Any]], str]] = {
        "products": lambda item: demo.products(item["question"]),
        "leg_counting": lambda item: demo.leg_counting(item["question"], item["metadata"], item["answer"]),
        "gsm_symbolic": lambda item: demo.gsm_symbolic(item["metadata"], item["answer"]),
    }
    key = derive_seed(seed, "family", family) % 2**31
    items = reasoning_gym.create_dataset(family, size=size, seed=key, **SIDE_FAMILIES[family])
    return [Demonstration(family, item["question"], solve[family](item)) for item in items]


def batches(source: Source, tokenizer: Any, start: int, stop: int, batch_tokens: int, seed: int) -> Iterator[Batch]:
    """Yield the batches of the training steps from ``start`` to ``stop``, both multiples of ``POOL``; train split only.

    Args:
        source: source of the demonstrations.
        tokenizer: tokenizer of the model.
        start: first training step.
        stop: step after the last one.
        batch_tokens: maximum number of tokens per batch, including padding.
        seed: seed of every draw, combined with the step.
    """
    for step in range(start, stop, POOL):
        rng = Random(derive_seed(seed, "demonstrations", step))
        groups = _cut(_pool(source, tokenizer, rng, step, (POOL + 1) * batch_tokens), batch_tokens)
        rng.shuffle(groups)
        for group in groups[:POOL]:
            yield pad(group, tokenizer.pad_token_id)


def encode(tokenizer: Any, pairs: list[Demonstration]) -> list[tuple[list[int], int]]:
    """Tokenise demonstrations as chats that end with the end-of-turn token. Return ids and prompt lengths."""
    prompts = [tokenizer.apply_chat_template(d.prompt, tokenize=False, add_generation_prompt=True) for d in pairs]
    heads = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    tails = tokenizer([d.solution for d in pairs], add_special_tokens=False)["input_ids"]
    end = [tokenizer.eos_token_id]
    return [(head + tail + end, len(head)) for head, tail in zip(heads, tails, strict=True)]


def pad(rows: list[tuple[list[int], int]], pad_id: int) -> Batch:
    """Return a batch of token rows in which only the solutions are targets."""
    import torch

    width = max(len(ids) for ids, _ in rows)
    tokens = np.full((len(rows), width), pad_id)
    targets = np.full((len(rows), width), -100)
    for i, (ids, prompt) in enumerate(rows):
        tokens[i, : len(ids)] = ids
        targets[i, prompt - 1 : len(ids) - 1] = ids[prompt:]
    return Batch(torch.from_numpy(tokens), torch.from_numpy(targets))


def _pool(source: Source, tokenizer: Any, rng: Random, step: int, tokens: int) -> list[tuple[list[int], int]]:
    rows: list[tuple[list[int], int]] = []
    while sum(len(ids) for ids, _ in rows) < tokens:
        drawn = [source.draw(rng, step) for _ in range(256)]
        encoded = encode(tokenizer, [d for d in drawn if d.split == "train"])
        rows += [row for row in encoded if len(row[0]) <= MAX_TOKENS]
    return sorted(rows, key=lambda row: len(row[0]))


def _cut(rows: list[tuple[list[int], int]], batch_tokens: int) -> list[list[tuple[list[int], int]]]:
    groups: list[list[tuple[list[int], int]]] = [[]]
    for row in rows:
        if groups[-1] and (len(groups[-1]) + 1) * len(row[0]) > batch_tokens:
            groups.append([])
        groups[-1].append(row)
    return groups
