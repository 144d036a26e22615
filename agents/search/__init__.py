"""Search baselines for ``env=reason_tree``: chain of thought, self-consistency, best-of-N, beam, DVTS, REBASE and MCTS.

They share the prompt, generator, reward model, grader and token counter of the environment. Each family has one file.
This package may import evaluation and policies, but never a learner.
"""

from typing import Any, Protocol

from agents.policies.walks import AlwaysExpand, RandomLegal
from agents.search.answer import SELECTIONS, Answer, Candidate
from agents.search.beam import BeamSearch, DiverseSearch
from agents.search.mcts import MonteCarloTreeSearch
from agents.search.rebase import Rebase
from agents.search.solutions import BestOfN, ChainOfThought, SelfConsistency
from reason_envs.envs.reason_tree.grower import Grower
from reason_envs.envs.reason_tree.tree import Tree
from reason_envs.errors import unknown_name
from reason_envs.validation import check_options, options_of


class SearchMethod(Protocol):
    """Search method that grows a tree from its root and submits an answer. It never sees the correct answer."""

    async def search(self, tree: Tree, grower: Grower) -> Answer:
        """Grow the tree and submit an answer. Searches of several trees under one ``gather`` are batched."""
        ...


METHODS: dict[str, type[SearchMethod]] = {
    "cot": ChainOfThought,
    "sc": SelfConsistency,
    "best_of_n": BestOfN,
    "beam": BeamSearch,
    "dvts": DiverseSearch,
    "rebase": Rebase,
    "mcts": MonteCarloTreeSearch,
}
"""Search methods by name. The fields of each class are its options."""

WALKS: dict[str, type[RandomLegal] | type[AlwaysExpand]] = {"random": RandomLegal, "always_expand": AlwaysExpand}
"""Policies without parameters by name. They act in the environment."""


def make_method(name: str, **options: Any) -> SearchMethod:
    """Build a search method by name.

    Example:
        ``make_method("mcts", budget=32, c_puct=0.5)``

    Raises:
        ReasonEnvsError: unknown name, unknown option, or invalid value.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    check_options(f"method {name!r}", options, options_of(METHODS[name]))
    return METHODS[name](**options)


__all__ = ["METHODS", "SELECTIONS", "WALKS", "Answer", "Candidate", "SearchMethod", "make_method"]
