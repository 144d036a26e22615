"""The longest prompt that a run takes, checked on all of its problems before the first step."""

from __future__ import annotations

from typing import Any

from agents.policies.language import LanguagePolicy
from agents.policies.roles import language_parts
from reason_envs.batching import gather
from reason_envs.core import Environment, checked_reset
from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.base import Task, TaskSet


async def check_prompts(policy: Any, environment: Environment, tasks: TaskSet) -> TaskSet:
    """Apply ``policy.max_prompt_tokens``: an error, or the task set without its overlong prompts.

    Returns:
        The tasks to use; a filtered set says in ``name`` how many were left out. A policy that reads no prompts takes
        all of them.
    """
    part = next(iter(language_parts(policy).values()), None)  # roles have the same model and limits
    if part is None:
        return tasks
    limit = part.prompt_limit
    problems = list(tasks)
    lengths = await gather(*(_prompt_length(environment.fork(), part, task) for task in problems))
    fitting = [i for i, length in enumerate(lengths) if length <= limit]
    if len(fitting) == len(problems):
        return tasks
    if part.config.overlong_prompts == "error":
        longest = max(range(len(problems)), key=lambda i: lengths[i])
        raise ReasonEnvsError(
            f"{len(problems) - len(fitting)} of {len(problems)} prompts are longer than {limit} tokens (longest: task "
            f"{problems[longest].id!r}, {lengths[longest]} tokens): the lower of policy.max_prompt_tokens="
            f"{part.config.max_prompt_tokens} and the positions of model and engine less policy.max_tokens="
            f"{part.max_tokens}. Raise the limit, lower policy.max_tokens, or set policy.overlong_prompts=filter."
        )
    if not fitting:
        raise ReasonEnvsError(
            f"Every prompt is longer than {limit} tokens (policy.max_prompt_tokens, or the positions of model and "
            "engine less policy.max_tokens): nothing is left."
        )
    return Selected(tasks, fitting)


async def _prompt_length(environment: Environment, policy: LanguagePolicy, task: Task) -> int:
    result = await checked_reset(environment, seed=0, options={"task": task})
    return max(policy.prompt_length(policy.observe(environment, o)) for o in result.observations.values())


class Selected(TaskSet):
    """Some of the problems of another set."""

    def __init__(self, tasks: TaskSet, indices: list[int]) -> None:
        self.name = f"{tasks.name} ({len(tasks) - len(indices)} overlong left out)"
        self.split = tasks.split
        self._tasks = tasks
        self._indices = indices

    def __len__(self) -> int:
        """Number of problems kept."""
        return len(self._indices)

    def __getitem__(self, index: int) -> Task:
        """Return the kept problem ``index``."""
        return self._tasks[self._indices[index]]
