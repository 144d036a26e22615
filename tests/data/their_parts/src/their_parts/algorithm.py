"""An algorithm: REINFORCE without a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agents.algorithms.config import LearnerConfig
from agents.algorithms.learner import Learner
from agents.algorithms.sample import Sample
from agents.registry import ALGORITHMS
from agents.trajectory import Trajectory


@dataclass
class ReinforceConfig(LearnerConfig):
    """Options of ``algo=their_reinforce``."""

    scale: float = 1.0
    """What returns are multiplied by."""


class Reinforce(Learner):
    """The return of an agent's stream is the credit of each of its decisions."""

    config: ReinforceConfig

    def credit(
        self, trajectories: Sequence[Trajectory], samples: Mapping[int, Sample]
    ) -> tuple[list[Sample], dict[str, float]]:
        """Spread the return."""
        streams = [stream for trajectory in trajectories for stream in trajectory.streams()]
        for stream in streams:
            for decision in stream:
                samples[id(decision)].advantage = self.config.scale * sum(d.reward for d in stream)
        return [samples[id(d)] for stream in streams for d in stream], {"their_streams": float(len(streams))}


def register_algorithm() -> None:
    ALGORITHMS.register("their_reinforce", Reinforce, ReinforceConfig)
