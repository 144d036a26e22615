"""Answers that a search submits, and the selection among finished candidates without the correct answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agents.evaluation.vote import vote
from reason_envs.envs.reason_tree.grower import Grower
from reason_envs.envs.reason_tree.tree import Tree

COSTS = ("generated_tokens", "reward_model_tokens", "generator_calls", "reward_model_calls", "nodes")
"""Fields of an ``Answer`` with its cost."""


@dataclass(frozen=True)
class Candidate:
    """Finished solution, which states an answer."""

    response: str
    """Text of the solution for the grader."""
    answer: str
    """Answer that the solution states."""
    value: float = 1.0
    """Value of the solution: its aggregated step scores by the reward model."""


@dataclass(frozen=True)
class Answer:
    """Answer that a search submits for a problem, and its cost."""

    response: str
    """Text for the grader."""
    answer: str | None
    """Answer that the response states. ``None`` if it states none."""
    value: float
    """Value of the response by the reward model."""
    candidates: int
    """Number of candidates: solutions that state an answer."""
    generated_tokens: int
    """Number of generated tokens, including discarded and repeated steps."""
    reward_model_tokens: int
    """Number of tokens that the reward model reads if it scores every path separately."""
    generator_calls: int
    """Number of samples from the generator: steps, or whole solutions."""
    reward_model_calls: int
    """Number of paths or whole solutions that the reward model scored."""
    nodes: int
    """Number of nodes in the tree, including the root."""


SELECTIONS = ("maximum", "vote", "majority")
"""Selection among finished candidates: highest value, vote weighted by value, or majority vote."""


def selected(candidates: Sequence[Candidate], select: str) -> Candidate:
    """Return the chosen candidate: with a vote, the first one with the winning answer. The earlier one wins a tie."""
    if select == "maximum":
        return max(candidates, key=lambda candidate: candidate.value)
    weights = [candidate.value for candidate in candidates] if select == "vote" else None
    return candidates[vote([candidate.answer for candidate in candidates], weights)]


def finished(tree: Tree, grower: Grower, index: int) -> bool:
    """Return whether a node ends its path with an answer."""
    return tree.nodes[index].terminal and grower.answer(tree.nodes[index].text) is not None


def choose(
    candidates: Sequence[Candidate], select: str, otherwise: tuple[str, float], costs: Mapping[str, int]
) -> Answer:
    """Select a candidate. Without candidates, the answer has the response and value of ``otherwise``."""
    if not candidates:
        response, value = otherwise
        return Answer(response, None, value, 0, **costs)
    chosen = selected(candidates, select)
    return Answer(chosen.response, chosen.answer, chosen.value, len(candidates), **costs)


async def submit(tree: Tree, grower: Grower, leaves: Sequence[int], select: str) -> Answer:
    """Select one of the finished leaves, which are given in the order of their draws, once for each draw.

    If no leaf is finished, the unfinished path with the highest value is completed greedily.
    """
    ends = {leaf: grower.response(tree, leaf) for leaf in leaves}
    if not ends:
        best, _ = max(enumerate(tree.nodes), key=lambda n: (not n[1].terminal, not n[1].children, n[1].value))
        ends = {best: await grower.complete(tree, best)}
    found = [(ends[i], grower.answer(ends[i]), tree.nodes[i].value) for i in leaves or ends]
    candidates = [Candidate(text, answer, value) for text, answer, value in found if answer is not None]
    costs = {"nodes": len(tree.nodes), **{name: getattr(tree, name) for name in COSTS if name != "nodes"}}
    return choose(candidates, select, (found[0][0], found[0][2]), costs)
