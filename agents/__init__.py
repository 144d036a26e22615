"""Learners (PPO, GRPO, AT-GRPO) for the environments of `reason_envs`.

The commands are `agents.train`, `agents.evaluate`, `agents.frontier`, `agents.reward_model` and `agents.report`.
`fit` trains from Python. May import `reason_envs`, which never imports `agents`.
"""

import reason_envs  # noqa: F401  (explains old names of modules of this package)
from agents.training.fit import Result, fit

__all__ = ["Result", "fit"]
