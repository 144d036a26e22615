"""Rewards from plain functions, and weighted sums of rewards."""

import asyncio
import inspect
import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from reason_envs.batching import gather
from reason_envs.errors import EngineError, ReasonEnvsError, RewardError, first_line
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
        """Call the function and check its result. An exception of the function becomes a `RewardError`."""
        extra = {"seed": seed} if "seed" in inspect.signature(self.function).parameters else {}
        try:
            if _is_async(self.function):
                result = await self.function(response, task, **extra)
            else:
                result = await asyncio.to_thread(self.function, response, task, **extra)
        except EngineError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {first_line(error)} ({_place(error)})"
            raise RewardError(f"The {self.name} raised {what}{_asked(response, task)}.") from error
        try:
            return _checked(result)
        except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several numbers
            raise ReasonEnvsError(
                f"The {self.name} returned {repr(result)[:200]} ({type(result).__name__}){_asked(response, task)}; it "
                "must return a finite number, or such a number and a dict."
            ) from None


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


def _checked(result: Any) -> Reward:
    """Convert the result of a function; raise a `ValueError`, `TypeError` or `RuntimeError` if it is invalid."""
    value, info = (result.value, result.info) if isinstance(result, Reward) else (result, {})
    if isinstance(result, tuple) and len(result) == 2:
        value, info = result
    if isinstance(value, str | bytes) or not math.isfinite(number := float(value)) or not isinstance(info, dict):
        raise ValueError
    return Reward(number, info)


def _asked(response: str, task: Task) -> str:
    return f" for task {task.id!r} and the response {response[:200]!r}"


def _place(error: Exception) -> str:
    """Return file and line of the code that raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"


def _is_async(function: Any) -> bool:
    target: Any = function.func if isinstance(function, partial) else function
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(target.__call__)


def name_of(function: Any) -> str:
    """Return module and name of a function, or of the class of another callable."""
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
