"""An algorithm that changes the credit: REINFORCE with a leave-one-out baseline (arXiv 2402.14740).

python -m agents.train algo=their_parts.rloo:their_rloo algo.samples_per_task=8
"""

import torch

from agents.advantages import group_relative
from agents.algorithms.config import LearnerConfig
from agents.algorithms.learner import Learner
from agents.algorithms.sample import with_advantages
from agents.registry import ALGORITHMS


class LeaveOneOut(Learner):
    def credit(self, trajectories):
        streams = [stream for trajectory in trajectories for stream in trajectory.streams()]
        returns = torch.tensor([sum(sample.reward for sample in stream) for stream in streams])
        groups = [stream[0].decision.group_id for stream in streams]
        advantages = group_relative(returns, groups, scale="none", leave_one_out=True)
        return with_advantages(streams, advantages), {"their_streams": float(len(streams))}


ALGORITHMS.register("their_rloo", LeaveOneOut, LearnerConfig)
