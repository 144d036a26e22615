"""Learners (PPO, GRPO, AT-GRPO) for the environments of `reason_envs`, which need the extra ``[train]``.

The commands are `agents.train`, `agents.evaluate`, `agents.frontier`, `agents.reward_model` and `agents.report`.
`fit` trains from Python. May import `reason_envs`, which never imports `agents`.
"""

import sys

from agents.training.fit import Result, fit
from reason_envs.errors import ReasonEnvsError
from reason_envs.validation import require

__all__ = ["Result", "fit"]

try:
    require("agents", "train")
except ReasonEnvsError as error:  # while Python looks for the module of a command, the first argument is -m
    raise (SystemExit(f"error: {error}") if sys.argv[:1] == ["-m"] else ImportError(error)) from None
