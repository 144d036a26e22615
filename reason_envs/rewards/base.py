"""The reward interface that environments use, and the built-in rewards for mathematics."""

import math
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from reason_envs.core import derive_seed
from reason_envs.errors import EngineError, ReasonEnvsError, RewardError, first_line
from reason_envs.rewards.math.extract import check_answer_fallbacks
from reason_envs.rewards.math.grade import MathGrade, grade_math_async
from reason_envs.tasks.base import Task


@dataclass(frozen=True)
class Reward:
    """Reward of a response."""

    value: float
    """Value of the reward."""
    info: dict[str, Any] = field(default_factory=dict)
    """Reasons of the reward, equal for equal responses. Graders of answers set ``correct`` (a bool). Default: empty."""


class RewardFunction(ABC):
    """Computes the reward of responses. It is awaited, so that a slow grader does not block other episodes.

    Exceptions of a subclass become a `RewardError`, except those of this library's engines. A number, or a number and a
    dict, becomes a `Reward`.
    """

    def __init_subclass__(cls) -> None:
        """Check the calls of the subclass."""
        super().__init_subclass__()
        if "__call__" in vars(cls):
            cls.__call__ = _explained(vars(cls)["__call__"])  # type: ignore[method-assign]

    @abstractmethod
    async def __call__(self, response: str, task: Task, seed: int) -> Reward:
        """Compute the reward of one response.

        Args:
            response: text that the model generated.
            task: task with its gold answer.
            seed: seed of any randomness in the reward.
        """


def _explained(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method with a checked result. Its exceptions name the reward, the task and the response."""

    @wraps(call)
    async def checked(self: RewardFunction, response: str, task: Task, seed: int) -> Reward:
        name = vars(self).get("name", f"reward function {name_of(self)}")
        try:
            result = await call(self, response, task, seed)
        except (EngineError, RewardError):
            raise
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {first_line(error)} ({frame.filename}:{frame.lineno})"
            raise RewardError(f"The {name} raised {what}{_asked(task, response)}.") from error
        value, info = (result.value, result.info) if isinstance(result, Reward) else (result, {})
        if isinstance(result, tuple) and len(result) == 2:
            value, info = result
        try:
            number = float(value)
            if isinstance(value, str | bytes) or not math.isfinite(number) or not isinstance(info, dict):
                raise ValueError
            return Reward(number, info)
        except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several numbers
            raise ReasonEnvsError(
                f"The {name} returned {repr(result)[:200]} ({type(result).__name__}){_asked(task, response)}; it must "
                "return a finite number, or such a number and a dict."
            ) from None

    return checked


def _asked(task: Task, response: str) -> str:
    return f" for task {task.id!r} and the response {response[:200]!r}"


def name_of(function: Any) -> str:
    """Return module and name of a function, or of the class of another callable."""
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__qualname__)}"


@dataclass
class RewardConfig:
    """Choice of the reward and its values."""

    name: str = "math"
    """Name of the reward: registered (``math``, ``random``) or an import path ``package.module:function``."""
    correct: float = 1.0
    """Reward of a correct answer."""
    wrong: float = -1.0
    """Reward of a wrong answer."""
    no_answer: float = -0.5
    """Reward if the response has no answer. With the defaults, no answer earns more than a guess if the accuracy is
    below 25 %: watch the metric ``frac_no_answer``."""
    fallbacks: tuple[str, ...] = ()
    """Ways to find an answer without a box, in this order: ``####``, ``last_number``. Default: none."""

    def __post_init__(self) -> None:
        self.fallbacks = check_answer_fallbacks(self.fallbacks)


@dataclass(frozen=True)
class MathReward(RewardFunction):
    """Rewards an answer that equals the gold answer."""

    correct: float = RewardConfig.correct
    """Reward of a correct answer."""
    wrong: float = RewardConfig.wrong
    """Reward of an answer that is wrong, is unreadable, or takes too long to compare."""
    no_answer: float = RewardConfig.no_answer
    """Reward if the response has no answer."""
    fallbacks: tuple[str, ...] = RewardConfig.fallbacks
    """Ways to find an answer without a box (see `extract_answer`)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fallbacks", check_answer_fallbacks(self.fallbacks))

    async def __call__(self, response: str, task: Task, seed: int) -> Reward:
        """Grade the response. The info has ``correct``, ``extracted``, ``reason`` and ``no_answer``."""
        grade = await grade_math_async(response, task.answer, self.fallbacks)
        info = {"correct": grade.correct, "extracted": grade.extracted, "reason": grade.reason}
        return Reward(self.pay(grade), {**info, "no_answer": grade.reason == "no_answer"})

    def pay(self, grade: MathGrade) -> float:
        """Return the reward of a grade."""
        if grade.reason == "no_answer":
            return self.no_answer
        return self.correct if grade.correct else self.wrong


@dataclass(frozen=True)
class RandomReward(MathReward):
    """Control for experiments: a fair coin pays ``correct`` or ``wrong``, while the info has the true grade."""

    no_answer: float = field(default=RewardConfig.no_answer, init=False)

    async def __call__(self, response: str, task: Task, seed: int) -> Reward:
        """Flip the coin of the seed, independent of the response."""
        graded = await super().__call__(response, task, seed)
        return Reward(self.correct if derive_seed(seed, "reward") % 2 else self.wrong, graded.info)
