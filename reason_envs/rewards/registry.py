"""Rewards by name, by import path, or from a function."""

import asyncio
import inspect
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.registry import Part, Registry
from reason_envs.rewards.base import Reward, RewardConfig, RewardFunction
from reason_envs.tasks.base import Task
from reason_envs.validation import Option, check_options, options_of


class RewardRegistry(Registry[RewardFunction]):
    """Rewards by name. A function ``(response, task, ...) -> float`` is a reward; other parameters are options."""

    def register(self, name: str, target: Any, config: Any = None) -> None:
        """Add a reward: a function, a class, or the import path of one."""
        if callable(target) and not inspect.isclass(target):
            _check_parameters(target, f"reward {name!r}")
        super().register(name, target, config)

    def make(self, spec: Any, /, *arguments: Any, **options: Any) -> RewardFunction:
        """Build a reward. ``spec`` can also be a function or a class."""
        if callable(spec) and not isinstance(spec, RewardFunction):
            return self.build(Part(spec), f"reward function {_name_of(spec)}", options)
        return super().make(spec, *arguments, **options)

    def build(
        self, part: Part, owner: str, options: dict[str, Any], /, *arguments: Any, **keywords: Any
    ) -> RewardFunction:
        """Call a class with the options, or bind them to a function."""
        target = part.load()
        if inspect.isclass(target):
            reward = super().build(part, owner, options)
            return reward if isinstance(reward, RewardFunction) else FunctionReward(reward, owner)
        _check_parameters(target, owner)
        check_options(owner, options, reward_options(target))
        if isinstance(target, RewardFunction):
            return target
        return FunctionReward(partial(target, **options) if options else target, owner)


REWARDS = RewardRegistry(
    "reward",
    "reason_envs.rewards",
    {
        "code": Part("reason_envs.rewards.code.grade:CodeReward"),
        "math": Part("reason_envs.rewards.base:MathReward"),
        "random": Part("reason_envs.rewards.base:RandomReward"),
    },
    RewardFunction,
)
"""Registered rewards; `register_reward` adds one."""


def register_reward(name: str, reward: Callable[..., Any] | str) -> None:
    """Add a reward, so that `make_reward` and ``env.reward=NAME`` know it.

    A package that calls this from a function in the entry-point group ``reason_envs.rewards`` need not be imported
    first.

    Args:
        name: a name that no other reward has.
        reward: function ``(response, task) -> float | (float, info)``, plain or ``async``; a class whose instances are
            such functions; or the import path ``"package.module:name"`` of either. Further parameters of the function,
            or the parameters of the class, are options. A parameter ``seed`` of the function receives the seed.

    Raises:
        ReasonEnvsError: another reward has the name, or the function cannot be called with a response and a task.
    """
    REWARDS.register(name, reward)


def make_reward(spec: Any, **options: Any) -> RewardFunction:
    """Build a reward function.

    Args:
        spec: registered name, import path ``"package.module:name"``, mapping with ``name`` and options, function or
            class as in `register_reward`, or `RewardFunction`, which is returned unchanged. A plain function runs in a
            thread.
        options: further parameters of the function, or parameters of the class.
    """
    return REWARDS.make(spec, **options)


def reward_from_config(config: RewardConfig, **options: Any) -> RewardFunction:
    """Build the reward that a configuration describes.

    Args:
        config: name and values of the reward. Values that are not options of the reward must be defaults.
        options: further options of the reward.
    """
    values, defaults = asdict(config), asdict(type(config)())
    name = values.pop("name")
    valid = reward_options(REWARDS[name].load())
    for option, value in values.items():
        if option not in valid and value != defaults[option]:
            raise OptionError(option, value, f"is not an option of reward {name!r}: leave it at its default.")
    return make_reward(name, **{option: value for option, value in values.items() if option in valid}, **options)


def reward_options(target: Any) -> dict[str, Option]:
    """Return the options of a reward class or function: its parameters without response, task and seed."""
    if inspect.isclass(target):
        return options_of(target)
    return {name: option for name, option in options_of(target, positional=2).items() if name != "seed"}


@dataclass(frozen=True)
class FunctionReward(RewardFunction):
    """A reward from a plain or ``async`` function."""

    function: Callable[..., Any]
    """Function that is called with response and task, and with ``seed`` if it has this parameter."""
    name: str
    """Name of the function in error messages."""

    async def __call__(self, response: str, task: Task, seed: int) -> Reward:
        """Call the function and check its result."""
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
                f"The {self.name} returned {result!r}; it must return a finite number, or such a number and a dict."
            )
        return Reward(float(value), info)


def _check_parameters(function: Any, owner: str) -> None:
    """Raise if a function cannot be called with a response and a task."""
    given = dict.fromkeys(options_of(function, positional=2))
    try:
        inspect.signature(function).bind("", None, **given)
    except TypeError as error:
        raise ReasonEnvsError(
            f"The {owner} cannot be called with a response and a task ({error}): give the function itself, such as "
            "`def brief(response, task): return 1 / (1 + len(response))`."
        ) from error


def _is_async(function: Any) -> bool:
    target: Any = function.func if isinstance(function, partial) else function
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(target.__call__)


def _name_of(function: Any) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
