"""Graders and rewards. Nothing heavy is imported and no process is started before the first grade that needs it."""

from reason_envs.rewards.base import MathReward, RandomReward, Reward, RewardConfig, RewardFunction
from reason_envs.rewards.extract import extract_answer
from reason_envs.rewards.math_grade import MathGrade, grade_math, grade_math_async, grade_math_batch
from reason_envs.rewards.registry import make_reward, register_reward, reward_from_config
from reason_envs.rewards.steps import REWARD_MODELS, StepRewardModel, StepScoreRequest, make_reward_model

__all__ = [
    "REWARD_MODELS",
    "MathGrade",
    "MathReward",
    "RandomReward",
    "Reward",
    "RewardConfig",
    "RewardFunction",
    "StepRewardModel",
    "StepScoreRequest",
    "extract_answer",
    "grade_math",
    "grade_math_async",
    "grade_math_batch",
    "make_reward",
    "make_reward_model",
    "register_reward",
    "reward_from_config",
]
