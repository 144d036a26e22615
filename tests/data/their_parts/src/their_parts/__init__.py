"""Parts of every kind, added by a separate package: tasks, environments, a reward, an engine, algorithms, a policy.

Entry points in ``pyproject.toml`` name the functions that register them, so that nobody needs to import the package.
After ``pip install PATH_OF_THIS_FOLDER`` the names work in every command::

    python -m agents.train env=their_parrot algo=their_rloo algo.samples_per_task=8 engine=their_engine
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reason_envs import register, tasks
from reason_envs.envs.single_turn_math import SingleTurnMath, SingleTurnMathConfig
from reason_envs.rewards import register_reward


def words(split: str, count: int = 16) -> tasks.TaskSet:
    """A task family: numbers to repeat."""
    return tasks.ListTaskSet("words", split, [tasks.Task(f"{split}/{i}", f"Say {i}.", str(i)) for i in range(count)])


def register_tasks() -> None:
    tasks.register("their_words", words)


@dataclass
class ParrotConfig(SingleTurnMathConfig):
    """Options of TheirParrot-v0."""

    tasks: Any = "their_words"
    """The numbers to repeat."""
    reward: Any = field(default_factory=lambda: "their_contains")
    """The reward: a number in the response must be the one to repeat."""


class Parrot(SingleTurnMath):
    """The player repeats a number."""


def register_environment() -> None:
    register("TheirParrot-v0", Parrot, ParrotConfig)


def register_rewards() -> None:
    register_reward("their_contains", "their_parts.reward:contains")


def register_algorithms() -> None:
    """Import the modules that register an algorithm."""
    from their_parts import cispo, rloo  # noqa: F401


def register_policies() -> None:
    """Import the module that registers a policy."""
    from their_parts import policy  # noqa: F401
