"""Gymnasium-style environments for reinforcement learning of LLM reasoning.

Importing the package registers the Gymnasium ids and loads nothing heavy.
Never imports `agents`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reason_envs.batching import MicroBatcher, gather
from reason_envs.core import Environment, StepResult, derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.registration import env_config, make_environment, register, register_all

if TYPE_CHECKING:
    from reason_envs.adapters.pettingzoo import aec_env, parallel_env

__version__ = "0.1.0"
__all__ = [
    "Environment",
    "MicroBatcher",
    "ReasonEnvsError",
    "StepResult",
    "__version__",
    "aec_env",
    "derive_seed",
    "env_config",
    "gather",
    "make_environment",
    "parallel_env",
    "register",
]

register_all()


def __getattr__(name: str) -> Any:
    """Import what needs PettingZoo at its first use."""
    if name not in ("aec_env", "parallel_env"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from reason_envs.adapters import pettingzoo

    return getattr(pettingzoo, name)
