"""The check before all others: whether episodes can be played at all, and leave their tasks as they were."""

from __future__ import annotations

import copy
from dataclasses import fields
from typing import Any

from gymnasium.spaces import Text

from reason_envs.check.play import EPISODES, Subject, difference
from reason_envs.check.results import CheckFailure
from reason_envs.core import Environment
from reason_envs.tasks import Task, TaskSet

FEW = 3
"""Steps of the longest episode, below which the player may have been too bad to see much."""


def playing(subject: Subject) -> str:
    """Play some episodes to their ends."""
    environment = subject.build()
    steps = [_play(example, environment) for example in subject.examples]
    told = f"{EPISODES} episodes of {', '.join(map(str, steps[:-1]))} and {steps[-1]} steps"
    if max(steps) < FEW and _may_be_few(subject, environment):
        told += "; if a good player's last longer, --response TEXT (repeatable) adds what one might write"
    return told


def _play(subject: Subject, environment: Environment) -> int:
    """Play an episode of a known task, if there are any; return its steps."""
    posed = environment.tasks
    if not isinstance(posed, TaskSet):
        return len(subject.play(environment)) - 1
    task = posed.sample(subject.seed)
    before = copy.deepcopy(task)
    comparable = difference(_parts(before), _parts(task)) is None
    results = subject.play(environment, {"task": task})
    found = difference(_parts(before), _parts(task)) if comparable else None
    if found is not None:
        raise CheckFailure(
            f"The episode of the task {before.id!r} changed the task itself: {found}, before and after.",
            "All episodes share their tasks: copy what an episode uses up into self.state in reset, and change that.",
        )
    return len(results) - 1


def _parts(task: Task) -> dict[str, Any]:
    return {field.name: getattr(task, field.name) for field in fields(task)}


def _may_be_few(subject: Subject, environment: Environment) -> bool:
    """Whether it depends on what is said how long episodes are, and nothing better was given."""
    space = environment.action_space(environment.agents[0])
    return isinstance(space, Text) and environment.decisions_per_episode is None and not subject.responses
