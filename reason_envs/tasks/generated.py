"""Problems that a function of ours draws, cut into disjoint splits."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from reason_envs.core import derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.base import Split, Task, TaskSet, split_of
from reason_envs.tasks.listed import check_count

SIZE = {"train": 10_000, "test": 2_048}
MAX_ATTEMPTS = 1_000
"""Problems drawn for one place; a fifth of all is in the test split."""
Draw = Callable[[Random], Task]
"""Draws a problem; its id is replaced."""


class GeneratedTaskSet(TaskSet):
    """A window on an endless generator: problem ``i`` is a pure function of (seed, i)."""

    def __init__(self, name: str, split: Split, draw: Draw, size: int | None, seed: int) -> None:
        """Wrap a generator.

        Args:
            name: the family's name.
            split: which problems are kept.
            draw: draws a problem.
            size: how many problems the set has; by default 10,000 (train) or 2,048 (test).
            seed: picks the problems.
        """
        self.name, self.split, self.seed = name, split, seed
        self._draw = draw
        self._size = SIZE[split] if size is None else check_count("size", size)

    def __len__(self) -> int:
        """Number of problems."""
        return self._size

    def __getitem__(self, index: int) -> Task:
        """Draw problem ``index``."""
        if not 0 <= index < self._size:
            raise IndexError(f"Problem {index} of {self.name!r} is outside 0..{self._size - 1}.")
        for attempt in range(MAX_ATTEMPTS):
            task = self._draw(Random(derive_seed(self.seed, self.name, index, attempt)))
            if split_of(task.question) == self.split:
                task_id = f"{self.name}/{self.split}/{self.seed}/{index}"
                return Task(task_id, task.question, task.answer, task.metadata)
        raise ReasonEnvsError(
            f"None of {MAX_ATTEMPTS} problems of {self.name!r} falls into the {self.split} split: its options allow "
            "too few different problems. Widen them."
        )
