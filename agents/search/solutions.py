"""Methods that write whole solutions: greedy chain of thought, self-consistency and best-of-N."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from agents.search.answer import SELECTIONS, Answer, Candidate, check_selection
from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.envs.reason_tree.grower import Grower
from reason_envs.envs.reason_tree.tree import AGGREGATIONS, Tree
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.llm.engine import GenerationRequest, Sampling, greedy
from reason_envs.reward_models.base import StepScoreRequest


@dataclass(frozen=True)
class Solution:
    """A sampled solution."""

    text: str
    """Its text."""
    steps: tuple[str, ...]
    """The text cut at the separator, without empty steps."""
    answer: str | None
    """The answer that it states."""
    tokens: int
    """Tokens generated for it."""
    scores: tuple[float, ...] = ()
    """What the reward model gave its steps, where it was asked."""
    scored_tokens: int | None = None
    """Tokens the reward model read for it; ``None`` where it was not asked, as for one that repeats an earlier one."""


async def sample_solutions(tree: Tree, grower: Grower, n: int, *, is_greedy: bool = False) -> list[Solution]:
    """Draw ``n`` solutions by one request. The first ``k`` are the same whatever ``n``."""
    sampling = solution_sampling(tree, grower)
    seed = derive_seed(tree.seed, "solutions")
    request = GenerationRequest(tree.prompt, seed, greedy(sampling) if is_greedy else sampling, n)
    samples = await grower.engine.generate(request)
    return [
        Solution(
            sample.text,
            steps=tuple(filter(None, map(str.strip, sample.text.split(grower.config.separator)))),
            answer=grower.answer(sample.text),
            tokens=sample.generated_tokens,
        )
        for sample in samples
    ]


def solution_sampling(tree: Tree, grower: Grower) -> Sampling:
    """Return how solutions are drawn: as long as ``max_depth`` full steps, or as the model's context allows."""
    config = grower.config
    longest = config.max_depth * config.max_step_tokens
    if grower.context_length is not None:
        longest = min(longest, grower.context_length - len(tree.prompt))
    return Sampling(longest, config.temperature, config.top_p)


async def score_solutions(tree: Tree, grower: Grower, solutions: Sequence[Solution]) -> list[Solution]:
    """Return the solutions with the scores of their steps; equal ones are scored once."""
    distinct = dict.fromkeys(solution.steps for solution in solutions)
    requests = [StepScoreRequest(tree.question, steps) for steps in distinct]
    scored = dict(zip(distinct, await gather(*map(grower.reward_model.score, requests)), strict=True))
    tokens = dict(zip(distinct, map(grower.reward_model.count_tokens, requests), strict=True))
    return [
        Solution(s.text, s.steps, s.answer, s.tokens, tuple(scored[s.steps].scores), tokens.pop(s.steps, None))
        for s in solutions
    ]


def submit_solution(solutions: Sequence[Solution], aggregation: str, select: str) -> Answer:
    """Choose among the solutions that state an answer; without one the first solution is submitted."""
    start, combine = AGGREGATIONS[aggregation]
    candidates = [
        Candidate(s.text, s.answer, functools.reduce(combine, s.scores, start))
        for s in solutions
        if s.answer is not None
    ]
    chosen = SELECTIONS[select](candidates) if candidates else None
    return Answer(
        response=chosen.response if chosen else solutions[0].text,
        answer=chosen.answer if chosen else None,
        value=chosen.value if chosen else 0.0,
        candidates=len(candidates),
        generated_tokens=sum(s.tokens for s in solutions),
        reward_model_tokens=sum(s.scored_tokens or 0 for s in solutions),
        generator_calls=len(solutions),
        reward_model_calls=sum(s.scored_tokens is not None for s in solutions),
        nodes=1,
    )


@dataclass
class ChainOfThought:
    """One greedy solution."""

    async def search(self, tree: Tree, grower: Grower) -> Answer:
        """Write a solution and submit it."""
        return submit_solution(await sample_solutions(tree, grower, 1, is_greedy=True), "product", "majority")


@dataclass
class SelfConsistency:
    """The most frequent answer of several solutions (Wang et al. 2023, arXiv 2203.11171)."""

    n: int = 8
    """Solutions."""

    def __post_init__(self) -> None:
        _check_count(self.n)

    async def search(self, tree: Tree, grower: Grower) -> Answer:
        """Sample solutions and submit the first one with the most frequent answer."""
        return submit_solution(await sample_solutions(tree, grower, self.n), "product", "majority")


@dataclass
class BestOfN:
    """The best of several solutions by the step reward model."""

    n: int = 8
    """Solutions."""
    aggregation: str = "product"
    """How the scores of a solution's steps become its value: ``product``, ``min``, ``last`` or ``sum``."""
    select: str = "maximum"
    """How a solution is chosen (see ``SELECTIONS``)."""

    def __post_init__(self) -> None:
        _check_count(self.n)
        check_selection(self.select)
        if self.aggregation not in AGGREGATIONS:
            raise unknown_name("aggregation", self.aggregation, AGGREGATIONS)

    async def search(self, tree: Tree, grower: Grower) -> Answer:
        """Sample solutions, score them, and submit one."""
        solutions = await sample_solutions(tree, grower, self.n)
        return submit_solution(await score_solutions(tree, grower, solutions), self.aggregation, self.select)


def _check_count(n: int) -> None:
    if n < 1:
        raise ReasonEnvsError(f"n={n} must be at least 1.")
