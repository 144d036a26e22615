"""Gymnasium-style environments for reinforcement learning of LLM reasoning."""

from reason_envs.batching import MicroBatcher, gather
from reason_envs.core import Environment, StepResult, derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.registration import env_config, make_environment, register, register_all

__all__ = [
    "Environment",
    "MicroBatcher",
    "ReasonEnvsError",
    "StepResult",
    "derive_seed",
    "env_config",
    "gather",
    "make_environment",
    "register",
]

register_all()
