"""Held-out measurements of an embedded model: samples, pass@k, format, and its careful mode."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from reason_envs.core import derive_seed
from reason_envs.llm.embedded.curriculum import family_demonstrations
from reason_envs.tasks.base import split_of

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_TASK = {"min_terms": 3, "max_terms": 6, "min_digits": 1, "max_digits": 2}
"""reasoning-gym's settings of ``chain_sum`` in the default task."""
_BOXED = re.compile(r"\\boxed\{(-?\d+(?:\.\d+)?)\}")


@dataclass(frozen=True)
class Problem:
    """A held-out problem."""

    question: str
    """The user's message."""
    answer: str
    """The gold answer."""
    opening: str = ""
    """Text that the answer is made to begin with; empty leaves the model free."""


@dataclass(frozen=True)
class Skill:
    """What a model does on one family."""

    problems: int
    """Number of held-out problems."""
    samples: int
    """Samples of each problem at temperature 1."""
    sampled: float
    """Share of right answers among the samples."""
    pass_at_k: float
    """Share of problems with at least one right sample."""
    well_formed: float
    """Share of samples that end by themselves with one boxed number as their last line."""
    greedy: float
    """Accuracy of the most likely answer, token by token."""
    mean_tokens: float
    """Mean length of a sample, the end-of-turn token included."""

    def as_dict(self) -> dict[str, float]:
        """Return the figures, rounded for the skill table."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def default_problems(count: int, seed: int, split: str = "test") -> list[Problem]:
    """Draw problems of the default task from reasoning-gym and keep one split."""
    import reasoning_gym

    found: dict[str, Problem] = {}
    key = derive_seed(seed, "evaluation") % 2**31
    for item in reasoning_gym.create_dataset("chain_sum", size=count * 8, seed=key, **DEFAULT_TASK):
        if split_of(item["question"]) == split:
            found[item["question"]] = Problem(item["question"], item["answer"])
    if len(found) < count:
        raise ValueError(f"Only {len(found)} problems of the {split} split found, {count} wanted: draw more.")
    return list(found.values())[:count]


def family_problems(family: str, count: int, seed: int) -> list[Problem]:
    """Draw held-out problems of another family."""
    drawn = family_demonstrations(family, count * 8, derive_seed(seed, "evaluation") % 2**31)
    held_out = {d.question: d for d in drawn if split_of(d.question) == "test"}
    answers = {q: d.solution.rsplit("{", 1)[1].rstrip("}") for q, d in held_out.items()}
    return [Problem(q, a) for q, a in answers.items()][:count]


def careful_opening(problem: Problem) -> Problem:
    """Make the answer of a sum begin with its first term, which commits it to working in steps."""
    first = problem.question.split(": ", 1)[1].split(" ", 1)[0]
    return Problem(problem.question, problem.answer, first)


def complete(
    model: Any, tokenizer: Any, problems: list[Problem], *, temperature: float, seed: int = 0, max_tokens: int = 160
) -> list[list[int]]:
    """Continue each problem once; returns the completions' token ids, openings and end-of-turn tokens included.

    Args:
        model: a causal language model of ``transformers``.
        tokenizer: its tokenizer, padding on the left.
        problems: what to answer.
        temperature: 0 takes the most likely token.
        seed: keys the draws.
        max_tokens: most new tokens.
    """
    import torch

    generator = torch.Generator().manual_seed(derive_seed(seed, "sampling"))
    order = sorted(range(len(problems)), key=lambda i: len(problems[i].question))
    completions: list[list[int]] = [[] for _ in problems]
    for start in range(0, len(order), 512):
        chunk = order[start : start + 512]
        rows = _complete_batch(model, tokenizer, [problems[i] for i in chunk], temperature, generator, max_tokens)
        for i, row in zip(chunk, rows, strict=True):
            completions[i] = row
    return completions


def measure(model: Any, tokenizer: Any, problems: list[Problem], samples: int, seed: int, **options: Any) -> Skill:
    """Measure samples at temperature 1 and greedy answers of a set of problems."""
    drawn = [
        complete(model, tokenizer, problems, temperature=1.0, seed=derive_seed(seed, i), **options)
        for i in range(samples)
    ]
    right = [[_right(tokenizer, ids, p) for ids, p in zip(r, problems, strict=True)] for r in drawn]
    solved = sum(any(column) for column in zip(*right, strict=True))
    total = len(problems) * samples
    return Skill(
        problems=len(problems),
        samples=samples,
        sampled=sum(map(sum, right)) / total,
        pass_at_k=solved / len(problems),
        well_formed=sum(_well_formed(tokenizer, ids) for row in drawn for ids in row) / total,
        greedy=greedy_accuracy(model, tokenizer, problems, **options),
        mean_tokens=sum(len(ids) for row in drawn for ids in row) / total,
    )


def greedy_accuracy(model: Any, tokenizer: Any, problems: list[Problem], **options: Any) -> float:
    """Return the share of problems whose most likely answer is right."""
    rows = complete(model, tokenizer, problems, temperature=0.0, **options)
    return sum(_right(tokenizer, ids, p) for ids, p in zip(rows, problems, strict=True)) / len(problems)


def _complete_batch(
    model: Any, tokenizer: Any, problems: list[Problem], temperature: float, generator: Any, max_tokens: int
) -> list[list[int]]:
    import torch

    chats = [[{"role": "user", "content": p.question}] for p in problems]
    prompts = [tokenizer.apply_chat_template(c, tokenize=False, add_generation_prompt=True) for c in chats]
    texts = [prompt + p.opening for prompt, p in zip(prompts, problems, strict=True)]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    mask, ids = inputs["attention_mask"].to(model.device), inputs["input_ids"].to(model.device)
    openings = [tokenizer(p.opening, add_special_tokens=False)["input_ids"] for p in problems]
    rows, cache, alive = [list(o) for o in openings], None, [True] * len(problems)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    for _ in range(max_tokens):
        with torch.inference_mode():
            out = model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
                logits_to_keep=1,
            )  # fmt: skip
        chosen = _choose(out.logits[:, -1].float(), temperature, generator)
        for i, token in enumerate(chosen.tolist()):
            if alive[i]:
                rows[i].append(token)
                alive[i] = token != tokenizer.eos_token_id
        if not any(alive):
            break
        cache, ids, positions = out.past_key_values, chosen[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(problems), 1)], dim=1)
    return rows


def _choose(logits: Tensor, temperature: float, generator: Any) -> Tensor:
    import torch

    if temperature == 0:
        return logits.argmax(-1)
    weights = torch.softmax(logits / temperature, -1).cpu()
    return torch.multinomial(weights, 1, generator=generator)[:, 0].to(logits.device)


def _right(tokenizer: Any, ids: list[int], problem: Problem) -> bool:
    found = _BOXED.findall(tokenizer.decode(ids, skip_special_tokens=True))
    return bool(found) and found[-1] == problem.answer


def _well_formed(tokenizer: Any, ids: list[int]) -> bool:
    if not ids or ids[-1] != tokenizer.eos_token_id:
        return False
    text = tokenizer.decode(ids, skip_special_tokens=True)
    return text.count("\\boxed{") == 1 and _BOXED.fullmatch(text.split("\n")[-1]) is not None
