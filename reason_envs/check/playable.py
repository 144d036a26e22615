"""The first check: episodes can be played, and they do not change their tasks."""

import copy
from dataclasses import fields
from typing import Any

from gymnasium.spaces import Text

from reason_envs.check.play import EPISODES, Subject, difference
from reason_envs.check.results import CheckFailure
from reason_envs.core import Environment
from reason_envs.tasks import Task, TaskSet

FEW = 3
"""Minimum length of the longest episode; shorter ones may be due to a bad player."""


def playing(subject: Subject) -> str:
    """Play several episodes."""
    environment = subject.build()
    steps = [_play(example, environment) for example in subject.examples]
    detail = f"{EPISODES} episodes of {', '.join(map(str, steps[:-1]))} and {steps[-1]} steps"
    if max(steps) < FEW and _may_be_few(subject, environment):
        detail += "; if a good player's episodes are longer, add its responses with --response TEXT (repeatable)"
    return detail


def _play(subject: Subject, environment: Environment) -> int:
    """Play an episode of a known task, if the environment has tasks. Returns the number of steps."""
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
            f"The episode of the task {before.id!r} changed the task: {found} (before and after).",
            "Episodes share tasks: copy what an episode changes into self.state in reset.",
        )
    return len(results) - 1


def _parts(task: Task) -> dict[str, Any]:
    return {field.name: getattr(task, field.name) for field in fields(task)}


def _may_be_few(subject: Subject, environment: Environment) -> bool:
    """Whether better responses could make episodes longer, and none were given."""
    space = environment.action_space(environment.agents[0])
    return isinstance(space, Text) and environment.decisions_per_episode is None and not subject.responses
