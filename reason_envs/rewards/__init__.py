"""Reward functions and graders of answers in mathematics, words and code.

Heavy packages are imported, and processes are started, only when a grade needs them.
May import tasks, engines, sandboxes and reward models; never environments.
"""

from reason_envs.rewards.base import MathReward, RandomReward, Reward, RewardConfig, RewardFunction
from reason_envs.rewards.math.extract import extract_answer
from reason_envs.rewards.math.grade import MathGrade, grade_math, grade_math_async, grade_math_batch
from reason_envs.rewards.registry import REWARDS, build_reward, check_reward, make_reward, register_reward, weighted

__all__ = [
    "REWARDS",
    "MathGrade",
    "MathReward",
    "RandomReward",
    "Reward",
    "RewardConfig",
    "RewardFunction",
    "build_reward",
    "check_reward",
    "extract_answer",
    "grade_math",
    "grade_math_async",
    "grade_math_batch",
    "make_reward",
    "register_reward",
    "weighted",
]
