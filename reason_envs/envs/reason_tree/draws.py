"""Several steps of one tree drawn at once: one batch of the generator, one of the reward model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reason_envs.batching import gather
from reason_envs.envs.reason_tree.growth import Grower
from reason_envs.envs.reason_tree.tree import Tree
from reason_envs.llm.engine import Generation


async def draw_steps(tree: Tree, grower: Grower, parents: Sequence[int]) -> list[int | None]:
    """Draw one step under each of ``parents``, which may name a node several times.

    Returns:
        The child of each (the same one twice where two draws were equal); ``None`` where the limits of the tree, each
        draw counted as a new node, or the generator allow no further step.
    """
    allowed = _allowed(tree, grower, parents)
    generations = await gather(*(grower.draw(tree, parents[place]) for place in allowed))
    drawn = {
        place: generation
        for place, generation in zip(allowed, generations, strict=True)
        if generation is not None  # what is exhausted has closed its parent
    }
    return await _attach(tree, grower, parents, drawn)


def _allowed(tree: Tree, grower: Grower, parents: Sequence[int]) -> list[int]:
    """Return the places in ``parents`` that the limits allow a draw for."""
    room = grower.config.max_nodes - len(tree.nodes)
    asked: Counter[int] = Counter()
    allowed: list[int] = []
    for place, parent in enumerate(parents):
        places_left = grower.config.max_branch - len(tree.nodes[parent].children)
        if len(allowed) < room and asked[parent] < places_left and grower.may_grow(tree, parent):
            asked[parent] += 1
            allowed.append(place)
    return allowed


async def _attach(tree: Tree, grower: Grower, parents: Sequence[int], drawn: dict[int, Generation]) -> list[int | None]:
    """Add the steps; equal ones are scored once, and the later ones charge the first."""
    first: dict[tuple[int, str], int] = {}
    for place, generation in drawn.items():
        first.setdefault((parents[place], generation.text.strip()), place)
    new = list(first.values())
    nodes: list[int | None] = [None] * len(parents)
    for places in (new, [place for place in drawn if place not in set(new)]):
        added = await gather(*(grower.attach(tree, parents[place], drawn[place]) for place in places))
        for place, node in zip(places, added, strict=True):
            nodes[place] = node
    return nodes
