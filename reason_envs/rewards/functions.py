"""Rewards from plain functions, and weighted sums of rewards."""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from reason_envs.batching import gather
from reason_envs.rewards.base import Reward, RewardFunction
from reason_envs.tasks.base import Task


@dataclass(frozen=True)
class FunctionReward(RewardFunction):
    """A reward from a plain or ``async`` function."""

    function: Callable[..., Any]
    """Function that is called with response and task, and with ``seed`` if it has this parameter."""
    name: str
    """Name of the function in error messages."""

    async def __call__(self, response: str, task: Task, seed: int) -> Reward:
        """Call the function; a plain one runs in a thread."""
        extra = {"seed": seed} if "seed" in inspect.signature(self.function).parameters else {}
        if _is_async(self.function):
            return await self.function(response, task, **extra)
        return await asyncio.to_thread(self.function, response, task, **extra)


@dataclass(frozen=True)
class WeightedReward(RewardFunction):
    """Weighted sum of rewards. The info has the value of each one, unweighted, as ``rewards/NAME``."""

    parts: Mapping[str, tuple[float, RewardFunction]]
    """Weight and reward by name. If two rewards give the same entry of ``info``, the first one counts."""

    async def __call__(self, response: str, task: Task, seed: int) -> Reward:
        """Compute every reward with the same seed."""
        paid = await gather(*(reward(response, task, seed) for _, reward in self.parts.values()))
        info = {key: value for reward in reversed(paid) for key, value in reward.info.items()}
        info |= {f"rewards/{name}": reward.value for name, reward in zip(self.parts, paid, strict=True)}
        total = sum(weight * reward.value for (weight, _), reward in zip(self.parts.values(), paid, strict=True))
        return Reward(total, info)


def _is_async(function: Any) -> bool:
    target: Any = function.func if isinstance(function, partial) else function
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(target.__call__)
