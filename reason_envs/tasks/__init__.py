"""Problems to reason about: task families by name, from generators, files, the hub and mixtures of them.

A task set gives problem i of a split as a pure function of its options.
May import the registry and the core; never engines or environments.
"""

from reason_envs.tasks.base import Split, Task, TaskSet, split_of
from reason_envs.tasks.registry import Family, family, make, names, register
from reason_envs.tasks.task_list import ListTaskSet

__all__ = ["Family", "ListTaskSet", "Split", "Task", "TaskSet", "family", "make", "names", "register", "split_of"]
