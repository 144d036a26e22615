"""Step (process) reward models: the interface, a token classifier on transformers, and recorded scores.

May import tasks and llm; rewards and environments import it.
"""

from reason_envs.reward_models.base import REWARD_MODELS, StepRewardModel, StepScoreRequest, make_reward_model

__all__ = ["REWARD_MODELS", "StepRewardModel", "StepScoreRequest", "make_reward_model"]
