"""What environments that pose problems share: choosing an episode's task, and building the reward."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.rewards import RewardConfig, RewardFunction, make_reward, reward_from_config
from reason_envs.tasks.base import Task, TaskSet

MAX_QUESTION_CHARS = 100_000
"""Bound of the observation space; a longer problem is an error."""


def choose_task(tasks: TaskSet, seed: int, options: Mapping[str, Any] | None) -> Task:
    """Return ``options["task"]`` where it is given, else the task that belongs to the episode's seed."""
    given = (options or {}).get("task")
    return tasks.sample(seed) if given is None else as_task(given)


def as_task(value: Task | Mapping[str, Any]) -> Task:
    """Read a task from a mapping with ``question`` and ``answer``, both text.

    ``metadata`` and ``id`` may be given too; the default ``id`` is a hash of the question.
    """
    if isinstance(value, Task):
        return value
    if not isinstance(value, Mapping):
        raise ReasonEnvsError(f"options['task'] is a Task or a mapping with question and answer, not {value!r}.")
    known = [field.name for field in fields(Task)]
    for key in value:
        if key not in known:
            raise unknown_name("field of a task", str(key), known)
    missing = {"question", "answer"} - set(value)
    if missing:
        raise ReasonEnvsError(f"options['task'] lacks {' and '.join(sorted(missing))}; it has {sorted(value)}.")
    for key in ("question", "answer"):
        if not isinstance(value[key], str):
            raise ReasonEnvsError(f"options['task'][{key!r}] must be text; it is {value[key]!r}.")
    digest = hashlib.blake2b(value["question"].encode(), digest_size=8).hexdigest()
    return Task(**{"id": f"given/{digest}", **value})


def check_question(task: Task) -> None:
    """Refuse a problem that the space of problem texts does not hold."""
    if len(task.question) > MAX_QUESTION_CHARS:
        raise ReasonEnvsError(
            f"Task {task.id!r} has {len(task.question)} characters; at most {MAX_QUESTION_CHARS} are allowed: "
            "shorten it or leave it out of the task set."
        )


def build_reward(spec: Any, config: type[RewardConfig] = RewardConfig) -> RewardFunction:
    """Build the reward that an environment's ``reward`` option describes.

    Args:
        spec: a ``RewardConfig``, or whatever `make_reward` takes: a name, ``"package.module:function"``, a function, or
            a mapping with options (``name`` too, unless it is that of ``config``).
        config: holds the defaults of the options that a mapping leaves out.
    """
    if isinstance(spec, RewardConfig):
        return reward_from_config(spec)
    if not isinstance(spec, Mapping):
        return make_reward(spec)
    common = {option: value for option, value in spec.items() if option in config.__dataclass_fields__}
    others = {str(option): value for option, value in spec.items() if option not in common}
    return reward_from_config(config(**common), **others)
