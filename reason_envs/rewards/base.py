"""The reward contract that environments use, and the rewards that ship."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from reason_envs.core import derive_seed
from reason_envs.rewards.math.extract import check_answer_fallbacks
from reason_envs.rewards.math.grade import MathGrade, grade_math_async
from reason_envs.tasks.base import Task


@dataclass(frozen=True)
class Reward:
    """What a response earned."""

    value: float
    """The reward."""
    info: dict[str, Any] = field(default_factory=dict)
    """Why; equal for equal responses. Graders of answers give ``correct: bool`` here."""


class RewardFunction(ABC):
    """Judges responses. It is awaited, so that a slow grader does not block other episodes."""

    @abstractmethod
    async def __call__(self, response: str, task: Task, seed: int) -> Reward:
        """Judge one response.

        Args:
            response: what the model wrote.
            task: the problem, with its gold answer.
            seed: keys whatever randomness the reward has.
        """


@dataclass
class RewardConfig:
    """Which reward, and what it pays; the one place of these defaults."""

    name: str = "math"
    """A registered name (``math``, ``random``) or an importable ``package.module:function``."""
    correct: float = 1.0
    """Paid for a right answer."""
    wrong: float = -1.0
    """Paid for a wrong answer."""
    no_answer: float = -0.5
    """Paid where no answer was found. It rewards abstention below 25 % accuracy: watch ``frac_no_answer``."""
    fallbacks: tuple[str, ...] = ()
    """Where else to look for an answer that is in no box: ``####``, ``last_number``."""

    def __post_init__(self) -> None:
        self.fallbacks = check_answer_fallbacks(self.fallbacks)


@dataclass(frozen=True)
class MathReward(RewardFunction):
    """Pays for an answer that equals the gold answer."""

    correct: float = RewardConfig.correct
    """Paid for a right answer."""
    wrong: float = RewardConfig.wrong
    """Paid for a wrong answer, one that cannot be read, and one that takes too long to compare."""
    no_answer: float = RewardConfig.no_answer
    """Paid where no answer was found."""
    fallbacks: tuple[str, ...] = RewardConfig.fallbacks
    """Where else to look for an answer (see ``extract_answer``)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fallbacks", check_answer_fallbacks(self.fallbacks))

    async def __call__(self, response: str, task: Task, seed: int) -> Reward:
        """Grade the response; info has ``correct``, ``extracted``, ``reason`` and ``no_answer``."""
        grade = await grade_math_async(response, task.answer, self.fallbacks)
        return Reward(self.pay(grade), grade_info(grade))

    def pay(self, grade: MathGrade) -> float:
        """Return what a grade earns."""
        if grade.reason == "no_answer":
            return self.no_answer
        return self.correct if grade.correct else self.wrong


@dataclass(frozen=True)
class RandomReward(RewardFunction):
    """The control of every learning claim: pays by a fair coin, while info still tells the true grade."""

    correct: float = RewardConfig.correct
    """Paid for heads."""
    wrong: float = RewardConfig.wrong
    """Paid for tails."""
    fallbacks: tuple[str, ...] = RewardConfig.fallbacks
    """Where else to look for an answer when the true grade is told."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fallbacks", check_answer_fallbacks(self.fallbacks))

    async def __call__(self, response: str, task: Task, seed: int) -> Reward:
        """Toss the coin that belongs to the seed, whatever the response."""
        grade = await grade_math_async(response, task.answer, self.fallbacks)
        heads = derive_seed(seed, "reward") % 2 == 1
        return Reward(self.correct if heads else self.wrong, grade_info(grade))


def grade_info(grade: MathGrade) -> dict[str, Any]:
    """Return a grade as the info of a reward."""
    return {
        "correct": grade.correct,
        "extracted": grade.extracted,
        "reason": grade.reason,
        "no_answer": grade.reason == "no_answer",
    }
