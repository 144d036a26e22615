"""Methods that sample whole solutions: greedy chain of thought, self-consistency and best-of-N."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agents.search.answer import SELECTIONS, Answer, Candidate, choose
from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.envs.reason_tree.grower import Grower
from reason_envs.envs.reason_tree.tree import AGGREGATIONS, Tree
from reason_envs.llm.engine import GenerationRequest, greedy
from reason_envs.reward_models.base import StepScoreRequest
from reason_envs.validation import Checked, limited


@dataclass(frozen=True)
class Solution:
    """Sampled solution."""

    text: str
    """Text of the solution."""
    steps: tuple[str, ...]
    """Steps of the solution: its text split at the separator, without empty steps."""
    answer: str | None
    """Answer that the solution states. ``None`` if it states none."""
    tokens: int
    """Number of generated tokens."""
    scores: tuple[float, ...] = ()
    """Score of each step by the reward model. Empty if the solution was not scored."""
    scored_tokens: int | None = None
    """Number of tokens that the reward model read. ``None`` if it did not score it, or scored an equal one before."""


async def sample_solutions(tree: Tree, grower: Grower, n: int, *, is_greedy: bool = False) -> list[Solution]:
    """Sample ``n`` solutions in one request. The first ``k`` solutions are the same for every ``n``.

    Solutions may be as long as ``max_depth`` full steps, if the context allows.
    """
    sampling = grower.to_the_end(tree)
    seed = derive_seed(tree.seed, "solutions")
    request = GenerationRequest(tree.prompt, seed, greedy(sampling) if is_greedy else sampling, n)
    samples = await grower.engine.generate(request)
    return [
        Solution(s.text, grower.rule.split(s.text), grower.answer(s.text), tokens=s.generated_tokens) for s in samples
    ]


async def score_solutions(tree: Tree, grower: Grower, solutions: Sequence[Solution]) -> list[Solution]:
    """Return the solutions with the scores of their steps. Equal solutions are scored once."""
    distinct = dict.fromkeys(solution.steps for solution in solutions)
    requests = [StepScoreRequest(tree.question, steps) for steps in distinct]
    scored = dict(zip(distinct, await gather(*map(grower.reward_model.score, requests)), strict=True))
    tokens = dict(zip(distinct, map(grower.reward_model.count_tokens, requests), strict=True))
    return [
        replace(s, scores=tuple(scored[s.steps].scores), scored_tokens=tokens.pop(s.steps, None)) for s in solutions
    ]


def submit_solution(solutions: Sequence[Solution], aggregation: str, select: str) -> Answer:
    """Select one of the solutions that state an answer. If none does, the first solution is submitted."""
    start, combine = AGGREGATIONS[aggregation]
    candidates = [
        Candidate(s.text, s.answer, functools.reduce(combine, s.scores, start))
        for s in solutions
        if s.answer is not None
    ]
    costs = {
        "generated_tokens": sum(s.tokens for s in solutions),
        "reward_model_tokens": sum(s.scored_tokens or 0 for s in solutions),
        "generator_calls": len(solutions),
        "reward_model_calls": sum(s.scored_tokens is not None for s in solutions),
        "nodes": 1,
    }
    return choose(candidates, select, (solutions[0].text, 0.0), costs)


@dataclass
class ChainOfThought:
    """Chain of thought: one greedy solution."""

    async def search(self, tree: Tree, grower: Grower) -> Answer:
        """Generate a solution and submit it."""
        return submit_solution(await sample_solutions(tree, grower, 1, is_greedy=True), "product", "majority")


@dataclass
class SelfConsistency(Checked):
    """Self-consistency: the most frequent answer of several solutions (Wang et al. 2023, arXiv 2203.11171)."""

    n: int = limited(8, at_least=1)
    """Number of sampled solutions."""

    async def search(self, tree: Tree, grower: Grower) -> Answer:
        """Sample solutions and submit the first one with the most frequent answer."""
        return submit_solution(await sample_solutions(tree, grower, self.n), "product", "majority")


@dataclass
class BestOfN(Checked):
    """Best-of-N: the best of several solutions by the step reward model."""

    n: int = limited(8, at_least=1)
    """Number of sampled solutions."""
    aggregation: str = limited("product", one_of=AGGREGATIONS)
    """Aggregation of the step scores into the value of a solution: ``product``, ``min``, ``last`` or ``sum``."""
    select: str = limited("maximum", one_of=SELECTIONS)
    """Rule that chooses one solution: ``maximum`` (value), ``vote`` (sum of values) or ``majority`` (number)."""

    async def search(self, tree: Tree, grower: Grower) -> Answer:
        """Sample solutions, score them, and submit one."""
        solutions = await sample_solutions(tree, grower, self.n)
        return submit_solution(await score_solutions(tree, grower, solutions), self.aggregation, self.select)
