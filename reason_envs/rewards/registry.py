"""Rewards by name, by import path, or from a function; and weighted sums of rewards."""

import asyncio
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from reason_envs.batching import gather
from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.registry import Part, Registry
from reason_envs.rewards.base import Reward, RewardConfig, RewardFunction, name_of
from reason_envs.tasks.base import Task
from reason_envs.validation import Option, check_options, mounted, options_of


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
        target: Any = self.function.func if isinstance(self.function, partial) else self.function
        if inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(target.__call__):
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


class RewardRegistry(Registry[RewardFunction]):
    """Rewards by name. A function ``(response, task, ...) -> float`` is a reward; other parameters are options."""

    def register(self, name: str, target: Any, config: Any = None) -> None:
        """Add a reward: a function, a class, or the import path of one."""
        if callable(target) and not inspect.isclass(target):
            _check_parameters(target, f"reward {name!r}")
        super().register(name, target, config)

    def make(self, spec: Any, /, *arguments: Any, **options: Any) -> RewardFunction:
        """Build a reward. ``spec`` can also be a function, a class, or a list for a `WeightedReward`."""
        if isinstance(spec, Sequence) and not isinstance(spec, str):
            return weighted(spec, self.make)
        if isinstance(spec, RewardFunction):
            return super().make(spec, **options)
        target, owner, options = self.checked(spec, options)
        reward: Any = (
            target(**options) if inspect.isclass(target) else partial(target, **options) if options else target
        )
        return reward if isinstance(reward, RewardFunction) else FunctionReward(reward, owner)

    def checked(self, spec: Any, options: dict[str, Any]) -> tuple[Any, str, dict[str, Any]]:
        """Check a reward before it is built. Returns the function or class, its name in messages, and its options."""
        if callable(spec):
            target, owner = spec, f"reward function {name_of(spec)}"
        elif isinstance(spec, str | Mapping):
            name, options = self._named(spec, options)
            target, owner = self[name].load(), f"reward {name!r}"
        else:
            return self._passed_through(spec, options), "", {}  # raises
        _check_parameters(target, owner)
        check_options(owner, options, reward_options(target), " A reward is called with a response and a task.")
        return target, owner, options


REWARDS = RewardRegistry(
    "reward", "reason_envs.rewards", Part.built_in("reason_envs", "reason_envs.rewards"), RewardFunction
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


def build_reward(spec: Any, config: type[RewardConfig] = RewardConfig) -> RewardFunction:
    """Build the reward that an environment's ``reward`` option describes.

    Args:
        spec: a ``RewardConfig``, or whatever `make_reward` takes: a name, ``"package.module:function"``, a function, a
            mapping with options (``name`` too, unless it is that of ``config``), or a list of these with weights.
        config: holds the defaults of the options that a mapping leaves out.
    """
    if isinstance(spec, list | tuple):
        return weighted(spec, lambda part: build_reward(part, config))
    return make_reward(_completed(spec, config))


def check_reward(spec: Any) -> None:
    """Check name, options and signature of a reward, or of each one in a list, without building it."""
    if isinstance(spec, list | tuple):
        _each(spec, check_reward)
    elif not isinstance(spec, RewardFunction):
        REWARDS.checked(_completed(spec, RewardConfig), {})


def weighted(specs: Sequence[Any], build: Callable[[Any], RewardFunction]) -> WeightedReward:
    """Build the weighted sum of rewards as ``build`` takes them. A mapping can have a ``weight``, 1.0 by default."""
    parts: dict[str, tuple[float, RewardFunction]] = {}
    for reward, weight, built in _each(specs, build):
        name = reward.get("name", "math") if isinstance(reward, Mapping) else reward
        name = (name if isinstance(name, str) else name_of(name)).replace(":", ".").rpartition(".")[2]
        while name in parts:
            name += "_"
        parts[name] = (weight, built)
    return WeightedReward(parts)


def _each(specs: Sequence[Any], use: Callable[[Any], Any]) -> list[tuple[Any, float, Any]]:
    """Return reward, weight, and result of ``use`` for each entry. Errors name the number of the entry."""
    entries = []
    if not specs:
        raise ReasonEnvsError(
            "The list of rewards is empty: give at least one, such as reward=[{name: math, weight: 1}]."
        )
    for number, spec in enumerate(specs):
        with mounted(str(number)):
            weight = spec.get("weight", 1.0) if isinstance(spec, Mapping) else 1.0
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
                raise OptionError("weight", weight, "must be a finite number.")
            reward = {k: v for k, v in spec.items() if k != "weight"} if isinstance(spec, Mapping) else spec
            entries.append((reward, float(weight), use(reward)))
    return entries


def _completed(spec: Any, config: type[RewardConfig]) -> Any:
    """Return a reward as `make_reward` takes it, with the defaults of ``config``."""
    if isinstance(spec, RewardConfig):
        return _described(spec, {})
    if not isinstance(spec, Mapping):
        return spec
    common = {option: value for option, value in spec.items() if option in config.__dataclass_fields__}
    if callable(common.get("name")):
        return partial(common["name"], **{key: value for key, value in spec.items() if key != "name"})
    return _described(config(**common), {str(key): value for key, value in spec.items() if key not in common})


def _described(config: RewardConfig, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mapping of name and options that a configuration stands for."""
    values, defaults = asdict(config), asdict(type(config)())
    target = REWARDS[config.name].load()
    _check_parameters(target, f"reward {config.name!r}")
    valid = reward_options(target)
    for option, value in values.items():
        if option not in ("name", *valid) and value != defaults[option]:
            raise OptionError(option, value, f"is not an option of reward {config.name!r}: leave it at its default.")
    return {**{key: value for key, value in values.items() if key in ("name", *valid)}, **options}


def reward_options(target: Any) -> dict[str, Option]:
    """Return the options of a reward class or function: its parameters without response, task and seed."""
    if inspect.isclass(target):
        return options_of(target)
    return {name: option for name, option in options_of(target, positional=2).items() if name != "seed"}


def _check_parameters(function: Any, owner: str) -> None:
    """Raise if a function, or the instances of a class, cannot be called with a response and a task."""
    call: Any = function
    arguments: tuple[Any, ...] = ("", None)
    if inspect.isclass(function):
        call = next((vars(base)["__call__"] for base in function.__mro__ if "__call__" in vars(base)), None)
        arguments = (None, *arguments)
    try:
        given = dict.fromkeys(options_of(call, positional=len(arguments)))
        inspect.signature(call).bind(*arguments, **given)
    except TypeError as error:
        raise ReasonEnvsError(
            f"The {owner} cannot be called with a response and a task ({error}): give the function itself, such as "
            "`def brief(response, task): return 1 / (1 + len(response))`."
        ) from error
