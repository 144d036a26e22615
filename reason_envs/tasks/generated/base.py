"""Problems that are generated on demand, cut into disjoint splits.

Problem ``i`` is a pure function of (seed, i): candidates at addresses derived from both numbers are generated until
one's text falls into the wanted split, so train and test share no problem whatever their seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from reason_envs.core import derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.base import Split, Task, TaskSet, split_of
from reason_envs.tasks.task_list import check_count

DEFAULT_SIZE = {"train": 10_000, "test": 2_048}
MAX_ATTEMPTS = 1_000
"""Candidates tried for one problem; with a fifth in the test split, a thousand misses mean there is none."""

Problem = tuple[str, str, Mapping[str, Any]]
"""Question, answer and metadata."""


def from_random(draw: Callable[[Random], Task]) -> Callable[[int], Problem]:
    """Make a pure function of an address from one that draws with a generator (the task's id is not used)."""

    def addressed(address: int) -> Problem:
        task = draw(Random(address))
        return task.question, task.answer, task.metadata

    return addressed


class GeneratedTaskSet(TaskSet):
    """A finite window on an infinite generator."""

    def __init__(
        self,
        name: str,
        split: Split,
        draw: Callable[[int], Problem],
        size: int,
        seed: int,
        addresses: int = 2**63,
    ) -> None:
        """Wrap a generator.

        Args:
            name: the family's name.
            split: which problems are kept.
            draw: a pure function from an address to a problem.
            size: how many problems this set has.
            seed: picks the problems.
            addresses: how many different addresses the generator takes.
        """
        self.name, self.split, self.size, self.seed = name, split, size, seed
        self._draw, self._addresses = draw, addresses

    def __len__(self) -> int:
        """Number of problems."""
        return self.size

    def __getitem__(self, index: int) -> Task:
        """Generate problem ``index``."""
        if not 0 <= index < self.size:
            raise IndexError(f"Problem {index} of {self.name!r} is outside 0..{self.size - 1}.")
        question, answer, metadata = self._first_in_split(index)
        return Task(f"{self.name}/{self.split}/{self.seed}/{index}", question, answer, metadata)

    def _first_in_split(self, index: int) -> Problem:
        for attempt in range(MAX_ATTEMPTS):
            problem = self._draw(derive_seed(self.seed, index, attempt) % self._addresses)
            if split_of(problem[0]) == self.split:
                return problem
        raise ReasonEnvsError(
            f"None of {MAX_ATTEMPTS} problems of {self.name!r} falls into the {self.split} split: its options allow "
            "too few different problems. Widen their ranges."
        )


def checked_size(split: Split, size: int | None, seed: int, max_samples: int | None) -> int:
    """Check the options that all generated families share, and return how many problems a set has."""
    if not isinstance(seed, int):
        raise ReasonEnvsError(f"seed is a whole number, not {seed!r}.")
    chosen = DEFAULT_SIZE[split] if size is None else check_count("size", size)
    return chosen if max_samples is None else min(chosen, check_count("max_samples", max_samples))
