"""What a search submits, and how it is chosen among finished candidates without any label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reason_envs.envs.reason_tree.grower import Grower
from reason_envs.envs.reason_tree.tree import Tree
from reason_envs.errors import unknown_name
from reason_envs.rewards.math.normalise import normalise


@dataclass(frozen=True)
class Candidate:
    """A solution that states an answer."""

    response: str
    """The solution as a grader reads it."""
    answer: str
    """The answer that it states."""
    value: float = 1.0
    """What the reward model thinks of it: its step scores, aggregated."""


@dataclass(frozen=True)
class Answer:
    """What a search submits for a problem, and what it cost."""

    response: str
    """What is graded; without an answer where no candidate was finished."""
    answer: str | None
    """The answer in it."""
    value: float
    """Its value."""
    candidates: int
    """Finished candidates it was chosen from."""
    generated_tokens: int
    """Every token generated, those of discarded and duplicated steps included."""
    reward_model_tokens: int
    """Tokens that the reward model reads to score everything alone."""
    generator_calls: int
    """Samples asked for: steps, or whole solutions."""
    reward_model_calls: int
    """Paths, or whole solutions, scored."""
    nodes: int
    """Steps in the tree, the root included."""


def first_of_most(candidates: Sequence[Candidate]) -> Candidate:
    """Return the first candidate of the most frequent answer; the first seen wins a tie."""
    return _heaviest(candidates, [1.0] * len(candidates))


def first_of_heaviest(candidates: Sequence[Candidate]) -> Candidate:
    """Return the first candidate of the answer whose candidates' values sum to most; the first seen wins a tie."""
    return _heaviest(candidates, [candidate.value for candidate in candidates])


def most_valuable(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate of the highest value; the first seen wins a tie."""
    return max(candidates, key=lambda candidate: candidate.value)


SELECTIONS: dict[str, Callable[[Sequence[Candidate]], Candidate]] = {
    "maximum": most_valuable,
    "vote": first_of_heaviest,
    "majority": first_of_most,
}
"""How one of several finished candidates is chosen: by value, by a vote weighted by value, or by a plain vote."""


def check_selection(select: str) -> None:
    """Refuse an unknown way of choosing."""
    if select not in SELECTIONS:
        raise unknown_name("select", select, SELECTIONS)


def finished(tree: Tree, grower: Grower, index: int) -> bool:
    """Whether a node ends its path with an answer."""
    return tree.nodes[index].terminal and grower.answer(tree.nodes[index].text) is not None


def costs_of(tree: Tree) -> dict[str, int]:
    """Return what a tree cost, as fields of an ``Answer``."""
    return {
        "generated_tokens": tree.generated_tokens,
        "reward_model_tokens": tree.reward_model_tokens,
        "generator_calls": tree.generator_calls,
        "reward_model_calls": tree.reward_model_calls,
        "nodes": len(tree.nodes),
    }


def submit(tree: Tree, grower: Grower, leaves: Sequence[int], select: str) -> Answer:
    """Choose among finished leaves.

    Args:
        tree: the tree they stand in.
        grower: what grew it.
        leaves: finished nodes in the order they were seen; a node drawn twice stands there twice, and votes twice.
        select: a name from ``SELECTIONS``.

    Returns:
        The answer; where nothing is finished the most valuable path, which has none.
    """
    candidates = [_candidate(tree, grower, leaf) for leaf in leaves]
    costs = costs_of(tree)
    if not candidates:
        best = max(range(len(tree.nodes)), key=lambda i: (i > 0, tree.nodes[i].value))
        return Answer(grower.response(tree, best), None, tree.nodes[best].value, 0, **costs)
    chosen = SELECTIONS[select](candidates)
    return Answer(chosen.response, chosen.answer, chosen.value, len(candidates), **costs)


def _candidate(tree: Tree, grower: Grower, leaf: int) -> Candidate:
    node = tree.nodes[leaf]
    answer = grower.answer(node.text)
    assert answer is not None  # the leaf is finished
    return Candidate(grower.response(tree, leaf), answer, node.value)


def _heaviest(candidates: Sequence[Candidate], weights: Sequence[float]) -> Candidate:
    sums: dict[str, float] = {}
    first: dict[str, Candidate] = {}
    for candidate, weight in zip(candidates, weights, strict=True):
        key = normalise(candidate.answer)
        sums[key] = sums.get(key, 0.0) + weight
        first.setdefault(key, candidate)
    return first[max(sums, key=lambda key: sums[key])]
