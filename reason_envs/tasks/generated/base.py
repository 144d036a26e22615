"""Tasks that are generated on demand, with disjoint splits.

Task ``i`` is a pure function of the seed and ``i``. Both numbers give a sequence of addresses, and the first address
whose question belongs to the split is used. So train and test never share a question, for any seeds.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from random import Random
from typing import Any

from reason_envs.core import derive_seed
from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.tasks.base import Split, Task, TaskSet, split_of
from reason_envs.tasks.task_list import check_count

DEFAULT_SIZE = {"train": 10_000, "test": 2_048}
MAX_ATTEMPTS = 1_000
"""Number of candidates tried for one task. A fifth belong to the test split, so 1,000 misses mean that none does."""

Problem = tuple[str, str, Mapping[str, Any]]
"""Question, answer and metadata."""
Draw = Callable[[Random], Problem]
"""Draws a problem; equal states of the generator give equal problems."""


class GeneratedTaskSet(TaskSet):
    """A finite window on an infinite generator.

    ``draw`` is a pure function from an address, below ``addresses``, to a question, an answer and metadata.
    """

    def __init__(
        self, name: str, split: Split, draw: Callable[[int], Problem], size: int, seed: int, addresses: int = 2**63
    ) -> None:
        self.name, self.split, self.size, self.seed = name, split, size, seed
        self._draw, self._addresses = draw, addresses

    def __len__(self) -> int:
        """Number of tasks."""
        return self.size

    def __getitem__(self, index: int) -> Task:
        """Generate task ``index``."""
        if not 0 <= index < self.size:
            raise IndexError(f"Task {index} of {self.name!r} is outside 0..{self.size - 1}.")
        for attempt in range(MAX_ATTEMPTS):
            problem = self._draw(derive_seed(self.seed, index, attempt) % self._addresses)
            if split_of(problem[0]) == self.split:
                return Task(f"{self.name}/{self.split}/{self.seed}/{index}", *problem)
        raise ReasonEnvsError(
            f"None of {MAX_ATTEMPTS} tasks of {self.name!r} belongs to the {self.split} split: the options allow too "
            "few different tasks. Widen their ranges."
        )


def generated(make_draw: Callable[..., Draw]) -> Callable[..., GeneratedTaskSet]:
    """Make a task family of a function that takes the family's own options and returns a `Draw`.

    The family takes the split, the same options, and those of every generated family: ``size`` (number of tasks;
    ``None``: 10,000 for train and 2,048 for test), ``seed`` (seed of the tasks) and ``max_samples`` (maximum number of
    tasks; the first ones are kept; ``None``: all).
    """

    def family(
        split: Split, *, size: int | None = None, seed: int = 0, max_samples: int | None = None, **options: Any
    ) -> GeneratedTaskSet:
        draw = make_draw(**options)
        count = checked_size(split, size, seed, max_samples)
        return GeneratedTaskSet(make_draw.__name__, split, lambda address: draw(Random(address)), count, seed)

    first, *common = list(inspect.signature(family).parameters.values())[:-1]
    parameters = [first, *inspect.signature(make_draw).parameters.values(), *common]
    types = {**make_draw.__annotations__, **family.__annotations__}
    built = wraps(make_draw)(family)
    built.__signature__, built.__annotations__ = inspect.Signature(parameters), types  # type: ignore[attr-defined]
    return built


def checked_size(split: Split, size: int | None, seed: int, max_samples: int | None) -> int:
    """Check the options that all generated families share, and return the number of tasks."""
    if not isinstance(seed, int):
        raise OptionError("seed", seed, "must be a whole number.")
    chosen = DEFAULT_SIZE[split] if size is None else check_count("size", size)
    return chosen if max_samples is None else min(chosen, check_count("max_samples", max_samples))


def check_range(low: int, high: int | None, **bounds: int) -> None:
    """Check two options, such as ``min_steps=1, max_steps=3``, that are minimum and maximum of one quantity.

    ``high=None`` sets no limit for the maximum.

    Raises:
        OptionError: they violate ``low <= minimum <= maximum <= high``.
    """
    (first, minimum), (second, maximum) = bounds.items()
    if not low <= minimum <= maximum:
        raise OptionError(first, minimum, f"must lie in [{low}, {second}={maximum}].")
    if high is not None and maximum > high:
        raise OptionError(second, maximum, f"must be at most {high}.")
