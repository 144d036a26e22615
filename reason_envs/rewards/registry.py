"""Rewards by name, by import path or from a user's own function."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.registry import load_attribute, load_plugins
from reason_envs.rewards.base import MathReward, RandomReward, Reward, RewardConfig, RewardFunction
from reason_envs.rewards.code.grade import CodeReward
from reason_envs.tasks.base import Task

Factory = Callable[..., Any]
ENTRY_POINT_GROUP = "reason_envs.rewards"
_factories: dict[str, Factory] = {"code": CodeReward, "math": MathReward, "random": RandomReward}


def register_reward(name: str, factory: Factory) -> None:
    """Make ``make_reward(name, **options)`` call a factory, which returns what ``make_reward`` takes.

    A name that is taken is an error.

    A package that calls this from a function in the entry-point group ``reason_envs.rewards`` need not be imported
    first.
    """
    if name in _factories:
        raise ReasonEnvsError(f"The reward {name!r} is registered already; choose another name.")
    _factories[name] = factory


def make_reward(spec: Any, **options: Any) -> RewardFunction:
    """Build a reward function.

    Args:
        spec: a registered name; an import path ``package.module:name``; a ``RewardFunction``; or a function
            ``(response, task) -> float | (float, info)``, plain or ``async``. A plain function runs in a thread, and
            one that takes ``seed`` gets it.
        options: keyword arguments for the factory of the name, the imported class or the function.
    """
    if isinstance(spec, str):
        spec, registered = _find(spec), spec in _factories
        if registered:
            return make_reward(spec(**options))
    if inspect.isclass(spec):
        return make_reward(spec(**options))
    if not callable(spec):
        raise ReasonEnvsError(
            f"reward={spec!r} is not a reward: give a name ({', '.join(sorted(_factories))}), "
            "'package.module:function' or a function (response, task) -> float."
        )
    if _is_reward_function(spec) and not options:
        return cast(RewardFunction, spec)
    return FunctionReward(partial(spec, **options) if options else spec, _name_of(spec))


def reward_from_config(config: RewardConfig) -> RewardFunction:
    """Build the reward that a configuration describes; a changed field that the reward does not take is an error."""
    values = asdict(config)
    name = values.pop("name")
    target = _find(name)
    taken = inspect.signature(target).parameters
    defaults = asdict(type(config)())
    ignored = [key for key, value in values.items() if key not in taken and value != defaults[key]]
    if ignored:
        raise ReasonEnvsError(f"The reward {name!r} does not take {', '.join(ignored)}; leave it at its default.")
    return make_reward(name, **{key: value for key, value in values.items() if key in taken})


@dataclass(frozen=True)
class FunctionReward:
    """A user's function as a reward function."""

    function: Callable[..., Any]
    """Called with (response, task), and ``seed`` where it takes one."""
    name: str
    """What errors call it."""

    async def __call__(self, response: str, task: Task, seed: int) -> Reward:
        """Call the function and check what it returns."""
        extra = {"seed": seed} if "seed" in inspect.signature(self.function).parameters else {}
        if _is_async(self.function):
            result = await self.function(response, task, **extra)
        else:
            result = await asyncio.to_thread(self.function, response, task, **extra)
        return self._checked(result)

    def _checked(self, result: Any) -> Reward:
        value, info = (result.value, result.info) if isinstance(result, Reward) else (result, {})
        if isinstance(result, tuple) and len(result) == 2:
            value, info = result
        is_number = hasattr(value, "__float__") and not isinstance(value, complex)
        if not is_number or not math.isfinite(float(value)) or not isinstance(info, dict):
            raise ReasonEnvsError(
                f"The reward function {self.name} returned {result!r}; "
                "it must return a finite number, or such a number and a dict."
            )
        return Reward(float(value), info)


def _find(name: str) -> Any:
    """Return the factory of a registered name, or what an address names."""
    load_plugins(ENTRY_POINT_GROUP)
    if name in _factories:
        return _factories[name]
    if ":" not in name:
        raise unknown_name("reward", name, [*_factories, "package.module:function"])
    return load_attribute(name)


def _is_async(function: Any) -> bool:
    target: Any = function.func if isinstance(function, partial) else function
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(target.__call__)


def _is_reward_function(spec: Any) -> bool:
    """Whether ``spec`` keeps the contract itself: asynchronous, with a seed, and says that it returns a ``Reward``."""
    signature = inspect.signature(spec)
    returned = signature.return_annotation
    return _is_async(spec) and "seed" in signature.parameters and returned in (Reward, "Reward")


def _name_of(function: Any) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
