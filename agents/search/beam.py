"""Beam search over reasoning steps, and its diverse variant (DVTS)."""

from collections.abc import Sequence
from dataclasses import dataclass

from agents.search.answer import SELECTIONS, Answer, finished, submit
from reason_envs.envs.reason_tree.grower import Grower, draw_steps
from reason_envs.envs.reason_tree.tree import Tree
from reason_envs.errors import OptionError
from reason_envs.validation import Checked, limited


@dataclass
class BeamSearch(Checked):
    """Keep the best ``width / branch`` steps of each level and draw ``branch`` continuations of each.

    All finished steps of a level are candidates. A finished step among the best steps occupies a place of the beam
    without continuations, so the search ends when all places hold finished steps.
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
        """Return the parents of the first draws: one list per beam. Each beam is pruned separately."""
        return [[0] * self.width]

    def _continued(self, tree: Tree, grower: Grower, level: Sequence[int], beams: int) -> list[int]:
        """Return the parents of the next draws of a beam."""
        alive = [i for i in dict.fromkeys(level) if finished(tree, grower, i) or not tree.nodes[i].terminal]
        kept = sorted(alive, key=lambda i: -tree.nodes[i].value)[: self.width // self.branch // beams]
        return [i for i in kept if not tree.nodes[i].terminal for _ in range(self.branch)]


@dataclass
class DiverseSearch(BeamSearch):
    """DVTS: ``width / branch`` independent subtrees. Each one is a beam that keeps its best step.

    Beeching, Tunstall and Rush, "Scaling test-time compute with open models" (2024).
    """

    def _first_beams(self) -> list[list[int]]:
        return [[0] * self.branch for _ in range(self.width // self.branch)]


def check_first_level(width: int, grower: Grower) -> None:
    """Check that the root may have ``width`` children.

    Raises:
        OptionError: ``width`` is above ``max_branch`` of the environment.
    """
    limit = grower.config.max_branch
    if width > limit:
        raise OptionError("width", width, f"must be at most env.max_branch={limit}: set env.max_branch={width}.")
