"""Held-out evaluation of an embedded model: samples, pass@k, format, and careful mode."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.embedded_models.base.curriculum import family_demonstrations
from reason_envs.core import derive_seed
from reason_envs.llm.chat import encode_prompt
from reason_envs.llm.engine import GenerationRequest, Sampling
from reason_envs.tasks.base import split_of
from reason_envs.tasks.generated.reasoning_gym import FAMILY_DEFAULTS

if TYPE_CHECKING:
    from reason_envs.llm.engines.transformers.engine import TransformersEngine

_BOXED = re.compile(r"\\boxed\{(-?\d+(?:\.\d+)?)\}")


@dataclass(frozen=True)
class Problem:
    """A held-out problem."""

    question: str
    """Text of the user message."""
    answer: str
    """Gold answer of the problem."""
    opening: str = ""
    """Forced start of the response. Empty: none."""


@dataclass(frozen=True)
class Skill:
    """Results of a model on one family."""

    problems: int
    """Number of held-out problems."""
    samples: int
    """Number of samples per problem at temperature 1."""
    sampled: float
    """Share of samples with a correct answer."""
    pass_at_k: float
    """Share of problems with at least one correct sample."""
    well_formed: float
    """Share of samples that end with the end-of-turn token after one boxed number in the last line."""
    greedy: float
    """Accuracy of greedy decoding."""
    mean_tokens: float
    """Mean length of a sample in tokens, including the end-of-turn token."""

    def as_dict(self) -> dict[str, float]:
        """Return the results, rounded for the table of skills."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def default_problems(count: int, seed: int, split: str = "test") -> list[Problem]:
    """Draw problems of the default task from reasoning-gym and keep one split."""
    import reasoning_gym

    found: dict[str, Problem] = {}
    key = derive_seed(seed, "evaluation") % 2**31
    for item in reasoning_gym.create_dataset("chain_sum", size=count * 8, seed=key, **FAMILY_DEFAULTS["chain_sum"]):
        if split_of(item["question"]) == split:
            found[item["question"]] = Problem(item["question"], item["answer"])
    if len(found) < count:
        raise ValueError(f"Found only {len(found)} problems of the {split} split instead of {count}: draw more.")
    return list(found.values())[:count]


def family_problems(family: str, count: int, seed: int) -> list[Problem]:
    """Draw held-out problems of another family."""
    drawn = family_demonstrations(family, count * 8, derive_seed(seed, "evaluation") % 2**31)
    held_out = {d.question: d for d in drawn if split_of(d.question) == "test"}
    answers = {q: d.solution.rsplit("{", 1)[1].rstrip("}") for q, d in held_out.items()}
    return [Problem(q, a) for q, a in answers.items()][:count]


def careful_opening(problem: Problem) -> Problem:
    """Force the response to a sum to start with its first term, so that the model works in steps."""
    first = problem.question.split(": ", 1)[1].split(" ", 1)[0]
    return Problem(problem.question, problem.answer, first)


def complete(
    engine: TransformersEngine,
    problems: list[Problem],
    *,
    temperature: float,
    samples: int = 1,
    seed: int = 0,
    max_tokens: int = 160,
) -> list[list[list[int]]]:
    """Answer each problem. Return the token ids of its samples, including openings and end-of-turn tokens.

    Args:
        engine: engine with the model.
        problems: problems to answer.
        temperature: sampling temperature; 0 is greedy.
        samples: number of samples per problem.
        seed: seed of the samples.
        max_tokens: maximum number of new tokens.
    """
    tokenizer, sampling = engine.tokenizer, Sampling(max_tokens, temperature)
    openings = [tokenizer.encode(p.opening, add_special_tokens=False) for p in problems]
    prompts = [encode_prompt(tokenizer, [{"role": "user", "content": p.question}]) for p in problems]
    requests = [
        GenerationRequest([*prompt, *opening], derive_seed(seed, i), sampling, samples)
        for i, (prompt, opening) in enumerate(zip(prompts, openings, strict=True))
    ]
    answers = engine.generate_batch(requests)
    return [[[*o, *g.token_ids] for g in generations] for o, generations in zip(openings, answers, strict=True)]


def measure(engine: TransformersEngine, problems: list[Problem], samples: int, seed: int) -> Skill:
    """Measure samples at temperature 1 and greedy answers to problems."""
    tokenizer = engine.tokenizer
    drawn = complete(engine, problems, temperature=1.0, samples=samples, seed=seed)
    right = [[is_right(tokenizer, ids, p) for ids in rows] for rows, p in zip(drawn, problems, strict=True)]
    every = [ids for rows in drawn for ids in rows]
    return Skill(
        problems=len(problems),
        samples=samples,
        sampled=sum(map(sum, right)) / len(every),
        pass_at_k=sum(map(any, right)) / len(problems),
        well_formed=sum(_well_formed(tokenizer, ids) for ids in every) / len(every),
        greedy=greedy_accuracy(engine, problems),
        mean_tokens=sum(map(len, every)) / len(every),
    )


def greedy_accuracy(engine: TransformersEngine, problems: list[Problem]) -> float:
    """Return the share of problems whose greedy answer is correct."""
    rows = complete(engine, problems, temperature=0.0)
    return sum(is_right(engine.tokenizer, ids, p) for (ids,), p in zip(rows, problems, strict=True)) / len(problems)


def is_right(tokenizer: Any, ids: list[int], problem: Problem) -> bool:
    """Return whether the last box of a response has the answer of the problem."""
    found = _BOXED.findall(tokenizer.decode(ids, skip_special_tokens=True))
    return bool(found) and found[-1] == problem.answer


def _well_formed(tokenizer: Any, ids: list[int]) -> bool:
    if not ids or ids[-1] != tokenizer.eos_token_id:
        return False
    text = tokenizer.decode(ids, skip_special_tokens=True)
    return text.count("\\boxed{") == 1 and _BOXED.fullmatch(text.split("\n")[-1]) is not None
