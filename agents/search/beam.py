"""Beam search over reasoning steps, and its diverse variant (DVTS)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from agents.search.answer import SELECTIONS, Answer, finished, submit
from reason_envs.envs.reason_tree.grower import Grower, draw_steps
from reason_envs.envs.reason_tree.tree import Tree
from reason_envs.errors import OptionError
from reason_envs.validation import Checked, limited


class LevelSearch(Checked, ABC):
    """Search that draws one level of steps at a time. All finished steps of a level are candidates."""

    width: int
    """Number of steps drawn on the first level."""
    select: str
    """Rule that chooses one candidate."""

    async def search(self, tree: Tree, grower: Grower) -> Answer:
        """Grow the tree and submit an answer.

        Raises:
            OptionError: ``width`` is above ``max_branch`` of the environment.
        """
        if self.width > (limit := grower.config.max_branch):
            rule = f"must be at most env.max_branch={limit}: set env.max_branch={self.width}."
            raise OptionError("width", self.width, rule)
        leaves: list[int] = []
        beams = self._first_beams()
        while any(beams):
            children = iter(await draw_steps(tree, grower, [parent for beam in beams for parent in beam]))
            levels = [[child for _, child in zip(beam, children, strict=False) if child is not None] for beam in beams]
            leaves += [child for level in levels for child in level if finished(tree, grower, child)]
            beams = [self._continued(tree, grower, level, len(leaves)) for level in levels]
        return await submit(tree, grower, leaves, self.select)

    def _first_beams(self) -> list[list[int]]:
        """Return the parents of the first draws: one list per beam. Each beam is pruned separately."""
        return [[0] * self.width]

    @abstractmethod
    def _continued(self, tree: Tree, grower: Grower, level: Sequence[int], leaves: int) -> list[int]:
        """Return the parents of the next draws of a beam, after ``leaves`` finished steps."""


@dataclass
class BeamSearch(LevelSearch):
    """Keep the best ``width / branch`` steps of each level and draw ``branch`` continuations of each.

    A finished step among the best steps occupies a place of the beam without continuations, so the search ends when
    all places hold finished steps.
    """

    width: int = limited(8, at_least=1)
    """Number of steps drawn per level. It must be a multiple of ``branch``."""
    branch: int = limited(4, at_least=1)
    """Number of continuations drawn from each kept step."""
    select: str = limited("maximum", one_of=SELECTIONS)
    """Rule that chooses one candidate: ``maximum`` (value), ``vote`` (sum of values) or ``majority`` (number)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.branch:
            raise OptionError("width", self.width, f"must be a multiple of branch={self.branch}.")

    def _continued(self, tree: Tree, grower: Grower, level: Sequence[int], leaves: int) -> list[int]:
        alive = [i for i in dict.fromkeys(level) if finished(tree, grower, i) or not tree.nodes[i].terminal]
        places = self.width // self.branch // len(self._first_beams())
        kept = sorted(alive, key=lambda i: -tree.nodes[i].value)[:places]
        return [i for i in kept if not tree.nodes[i].terminal for _ in range(self.branch)]


@dataclass
class DiverseSearch(BeamSearch):
    """DVTS: ``width / branch`` independent subtrees. Each one is a beam that keeps its best step.

    Beeching, Tunstall and Rush, "Scaling test-time compute with open models" (2024).
    """

    def _first_beams(self) -> list[list[int]]:
        return [[0] * self.branch for _ in range(self.width // self.branch)]
