"""Tasks: problems with gold answers, from generators, files, the hub, games and mixtures of them.

A task family is made by name. Task i of a split is a pure function of the options of the family.
May import the registry and the core; never engines or environments.
"""

from reason_envs.tasks.base import Split, Task, TaskSet, split_of
from reason_envs.tasks.registry import Family, family, make, names, register
from reason_envs.tasks.task_list import ListTaskSet

__all__ = ["Family", "ListTaskSet", "Split", "Task", "TaskSet", "family", "make", "names", "register", "split_of"]
