"""AT-GRPO: agent- and turn-wise group-relative policy optimisation ("Stronger Together", arXiv 2510.11062).

At each turn each agent, in order, samples several candidates from the same state. The candidates are compared with
each other, and the episode continues from one of them (see ``agents.rollout.turn_tree``). The return of a candidate is
the reward that its own step pays its agent: ``alpha * team + local`` in the multi-agent environments. The other
candidates are trained on as well. So groups are keyed by (task, turn, agent), and a task costs K times the tokens of an
episode; all of these tokens are counted.

Departures from the paper, each an option:

* The dual clip is off (paper: ``dual_clip=3``).
* Advantages are divided by the standard deviation of all rewards of the training step (paper: ``scale=std``, that of
  the group). Candidates of one turn often differ only by the cost of a move. Divided by the group's standard deviation,
  this difference would weigh as much as the reward for solving the task.
* The episode can also continue from a random candidate (``select=sample``) or from the first (``select=first``).

Evaluation plays one candidate per turn, so that nothing is selected by reward.
"""

from collections.abc import Sequence

from agents.algorithms.grpo import GRPO
from agents.algorithms.options import ATGRPOConfig
from agents.algorithms.sample import Sample, SampledTrajectory
from agents.rollout.turn_tree import play_turn_tree
from agents.trajectory import Trajectory


class ATGRPO(GRPO):
    """Group-relative advantages of single decisions: the candidates of one agent at one turn of one task."""

    config: ATGRPOConfig

    async def collect(self, step: int) -> list[Trajectory]:
        """Play the tasks of a training step with ``samples_per_task`` candidates per turn."""
        select, sampling = self.config.select, self.sampling(step)
        return await play_turn_tree(self.environment, self.policy, self.plan(step), select, sampling=sampling)

    def advantage_groups(self, trajectories: Sequence[SampledTrajectory]) -> list[list[Sample]]:
        """Compare single decisions, including candidates from which the episode did not continue."""
        return [[sample] for trajectory in trajectories for sample in trajectory.samples]
