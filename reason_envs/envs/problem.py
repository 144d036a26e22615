"""What environments that pose problems share: choosing an episode's task."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.tasks.base import Task, TaskSet


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
