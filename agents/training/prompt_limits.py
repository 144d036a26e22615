"""The limit on the length of prompts, checked on all problems of a run before the first step."""

from typing import Any

from agents.policies.language import LanguagePolicy
from agents.policies.roles import language_parts
from reason_envs.batching import gather
from reason_envs.core import Environment, checked_reset
from reason_envs.errors import RunError
from reason_envs.tasks.base import Task, TaskSet
from reason_envs.tasks.task_list import ListTaskSet


async def check_prompts(policy: Any, environment: Environment, tasks: TaskSet) -> TaskSet:
    """Return the tasks of a set whose prompts are within the limit, as ``policy.overlong_prompts`` says.

    The set counts the others in ``left_out``. Policies that are not language models take all tasks.

    Raises:
        RunError: a prompt is too long and ``policy.overlong_prompts=error``, or all prompts are too long.
    """
    part = next(iter(language_parts(policy).values()), None)  # all roles have the same limits
    if part is None:
        return tasks
    limit = part.prompt_limit
    problems = list(tasks)
    lengths = await gather(*(_prompt_length(environment.fork(), part, task) for task in problems))
    fitting = [i for i, length in enumerate(lengths) if length <= limit]
    if len(fitting) == len(problems):
        return tasks
    if part.config.overlong_prompts == "error" or not fitting:
        longest = max(range(len(problems)), key=lambda i: lengths[i])
        raise RunError(
            f"{len(problems) - len(fitting)} of {len(problems)} prompts are longer than {max(limit, 0)} tokens "
            f"(longest: task {problems[longest].id!r}, {lengths[longest]} tokens). The limit is the smaller of "
            f"policy.max_prompt_tokens={part.config.max_prompt_tokens} and the context length of model and engine "
            f"minus policy.max_tokens={part.max_tokens}. Raise it or lower policy.max_tokens; "
            "policy.overlong_prompts=filter leaves these tasks out if others remain."
        )
    left_out = {**tasks.left_out, f"with a prompt of more than {limit} tokens": len(problems) - len(fitting)}
    return ListTaskSet(tasks.name, tasks.split, [problems[i] for i in fitting], left_out, disjoint=tasks.disjoint)


async def _prompt_length(environment: Environment, policy: LanguagePolicy, task: Task) -> int:
    result = await checked_reset(environment, seed=0, options={"task": task})
    return max(policy.prompt_length(policy.observe(environment, o)) for o in result.observations.values())
