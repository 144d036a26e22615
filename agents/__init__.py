"""Learners (PPO, GRPO, AT-GRPO) for the environments of `reason_envs`.

The commands are `agents.train`, `agents.evaluate`, `agents.frontier`, `agents.reward_model` and `agents.report`.
`fit` trains from Python. May import `reason_envs`, which never imports `agents`.
"""

from agents.training.fit import Result, fit

__all__ = ["Result", "fit"]
