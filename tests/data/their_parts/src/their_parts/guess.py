"""A text environment: the player has three turns to find a number, and learns after each guess whether it was too low.

Check it and train it where Python finds this package (installed, or its folder on ``PYTHONPATH``)::

    python -m reason_envs.check their_parts.guess:TheirGuess-v0
    python -m agents.train env=their_parts.guess:TheirGuess-v0 policy.max_tokens=6 steps=100
"""

from dataclasses import dataclass
from typing import Any

from reason_envs import register, tasks
from reason_envs.envs.task_environment import Reply, TaskConfig, TextEnvironment

DIGITS = tuple("123456789")


def numbers(split: tasks.Split, size: int = 200) -> tasks.TaskSet:
    """A task family: numbers from 1 to 9."""
    pool = [tasks.Task(f"{split}/{i}", "Find a number from 1 to 9.", DIGITS[i % 9]) for i in range(size)]
    return tasks.ListTaskSet("their_numbers", split, pool)


@dataclass
class GuessConfig(TaskConfig):
    """Options of TheirGuess-v0."""

    tasks: Any = "their_numbers"
    turns: int = 3
    """Maximum number of guesses."""


class Guess(TextEnvironment):
    """The player is paid 1 for the number and -0.1 for a response that is not a digit from 1 to 9."""

    async def answer(self, response: str) -> Reply:
        """Say whether the guess is too low or too high."""
        valid, right = response in DIGITS, response == self.task.answer
        hint = f"{response} is too {'low' if response < self.task.answer else 'high'}." if valid else "What?"
        over = right or self.state.turn == self.config.turns
        return Reply(float(right) if valid else -0.1, None if over else hint, {"valid_action": valid, "correct": right})

    def parse_action(self, text: str) -> str:
        """Read the digits of a text."""
        return "".join(filter(str.isdecimal, text))


tasks.register("their_numbers", numbers)
register("TheirGuess-v0", Guess, GuessConfig)
