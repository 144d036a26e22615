"""Beam search over reasoning steps, and its diverse form (DVTS)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.search.answer import Answer, check_selection, finished, submit
from reason_envs.envs.reason_tree.grower import Grower, draw_steps
from reason_envs.envs.reason_tree.tree import Tree
from reason_envs.errors import ReasonEnvsError


@dataclass
class BeamSearch:
    """Keep the most valuable steps of a level and draw several continuations of each.

    A level's finished steps are candidates, kept or not. A finished step that is among the best takes its place in the
    beam with it, so that the search ends when all places are taken.
    """

    width: int = 8
    """Steps drawn on each level."""
    branch: int = 4
    """Continuations drawn of each step that is kept: ``width / branch`` are."""
    select: str = "maximum"
    """How a finished candidate is chosen (see ``SELECTIONS``)."""

    def __post_init__(self) -> None:
        if not 1 <= self.branch <= self.width or self.width % self.branch:
            raise ReasonEnvsError(f"width={self.width} must be a multiple of branch={self.branch}.")
        check_selection(self.select)

    async def search(self, tree: Tree, grower: Grower) -> Answer:
        """Grow the tree and submit an answer."""
        check_first_level(self.width, grower)
        leaves: list[int] = []
        beams = self._first_beams()
        while any(beams):
            drawn = await draw_steps(tree, grower, [parent for beam in beams for parent in beam])
            children = iter(drawn)
            levels = [[child for _, child in zip(beam, children, strict=False) if child is not None] for beam in beams]
            leaves += [child for level in levels for child in level if finished(tree, grower, child)]
            beams = [self._continued(tree, grower, level, len(beams)) for level in levels]
        return submit(tree, grower, leaves, self.select)

    def _first_beams(self) -> list[list[int]]:
        """Return the parents of the first draws, a list for each beam that is pruned by itself."""
        return [[0] * self.width]

    def _continued(self, tree: Tree, grower: Grower, level: Sequence[int], beams: int) -> list[int]:
        """Return the parents of a beam's next draws."""
        alive = [i for i in dict.fromkeys(level) if finished(tree, grower, i) or not tree.nodes[i].terminal]
        kept = sorted(alive, key=lambda i: -tree.nodes[i].value)[: self.width // self.branch // beams]
        return [i for i in kept if not tree.nodes[i].terminal for _ in range(self.branch)]


@dataclass
class DiverseSearch(BeamSearch):
    """DVTS: ``width / branch`` independent subtrees, each a beam that keeps its best step.

    Beeching, Tunstall and Rush, "Scaling test-time compute with open models" (2024).
    """

    def _first_beams(self) -> list[list[int]]:
        return [[0] * self.branch for _ in range(self.width // self.branch)]


def check_first_level(width: int, grower: Grower) -> None:
    """Refuse to draw more first steps than a node may have children."""
    if width > grower.config.max_branch:
        raise ReasonEnvsError(
            f"width={width} draws that many first steps, and max_branch={grower.config.max_branch} allows fewer: "
            f"set env.max_branch={width}."
        )
