"""A part of each kind, added from outside: a task family, an environment, a reward and an engine.

Each ``register_...`` is named by an entry point in ``pyproject.toml``; nobody needs to import this package.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reason_envs import register, tasks
from reason_envs.envs.single_turn_math import SingleTurnMath, SingleTurnMathConfig
from reason_envs.llm import ENGINES
from reason_envs.rewards import register_reward


def words(split: str, count: int = 16) -> tasks.TaskSet:
    """Numbers to repeat."""
    return tasks.ListTaskSet("words", split, [tasks.Task(f"{split}/{i}", f"Say {i}.", str(i)) for i in range(count)])


def register_tasks() -> None:
    tasks.register("their_words", words)


@dataclass
class ParrotConfig(SingleTurnMathConfig):
    """Options of TheirParrot-v0."""

    tasks: Any = "their_words"
    """What to repeat."""
    reward: Any = field(default_factory=lambda: "their_echo")
    """What pays."""


class Parrot(SingleTurnMath):
    """Repeat what you are told."""


def register_environment() -> None:
    register("TheirParrot-v0", Parrot, ParrotConfig)


def echo(response: str, task: tasks.Task) -> tuple[float, dict[str, Any]]:
    """Pay for the answer anywhere in the response."""
    right = task.answer in response
    return float(right), {"correct": right}


def register_rewards() -> None:
    register_reward("their_echo", echo)


def register_engine() -> None:
    ENGINES.register("their_engine", "their_parts.engine:CountingEngine", "their_parts.engine:CountingEngineConfig")
