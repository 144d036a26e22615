"""Problems to reason about: task families by name, from generators, files, the hub and mixtures of them."""

from reason_envs.tasks.base import Split, Task, TaskSet, split_of
from reason_envs.tasks.listed import ListTaskSet
from reason_envs.tasks.registry import Family, family, make, names, register

__all__ = ["Family", "ListTaskSet", "Split", "Task", "TaskSet", "family", "make", "names", "register", "split_of"]
