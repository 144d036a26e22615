"""Graders and rewards.

Nothing heavy is imported and no process is started before the first grade that needs it.
May import tasks, engines, sandboxes and reward models; never environments.
"""

from reason_envs.rewards.base import MathReward, RandomReward, Reward, RewardConfig, RewardFunction
from reason_envs.rewards.math.extract import extract_answer
from reason_envs.rewards.math.grade import MathGrade, grade_math, grade_math_async, grade_math_batch
from reason_envs.rewards.registry import REWARDS, make_reward, register_reward, reward_from_config

__all__ = [
    "REWARDS",
    "MathGrade",
    "MathReward",
    "RandomReward",
    "Reward",
    "RewardConfig",
    "RewardFunction",
    "extract_answer",
    "grade_math",
    "grade_math_async",
    "grade_math_batch",
    "make_reward",
    "register_reward",
    "reward_from_config",
]
