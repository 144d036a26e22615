"""Problems and sets of problems: what every task family returns."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from reason_envs.core import derive_seed

Split = Literal["train", "test"]
TEST_SHARE = 0.2
"""Share of the problems that the hash assigns to the test split, for families without an official one."""


@dataclass(frozen=True)
class Task:
    """One problem."""

    id: str
    """Unique within its task set and stable from run to run."""
    question: str
    """The problem as the model reads it."""
    answer: str
    """The gold answer that the grader compares with."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the family knows (worked solution, difficulty, tests, ...)."""


def split_of(question: str) -> Split:
    """Assign a problem to ``train`` or ``test`` by a hash of its text, whatever the seed that produced it."""
    digest = hashlib.blake2b(question.encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "big") / 2**64 < TEST_SHARE else "train"


class TaskSet(ABC):
    """A finite, indexable set of problems; item ``i`` is the same at every call."""

    name: str
    split: Split

    @abstractmethod
    def __len__(self) -> int:
        """Number of problems."""

    @abstractmethod
    def __getitem__(self, index: int) -> Task:
        """Return problem ``index`` (``0 <= index < len``); ``IndexError`` outside."""

    def __iter__(self) -> Iterator[Task]:
        """Iterate over every problem in order."""
        return (self[i] for i in range(len(self)))

    def sample(self, seed: int) -> Task:
        """Return the problem that belongs to an episode seed: a pure function of the seed."""
        return self[derive_seed(seed, "task") % len(self)]

    def ordered(self, position: int, seed: int) -> Task:
        """Return the problem at ``position`` of endless shuffled epochs: a pure function of both numbers."""
        epoch, offset = divmod(position, len(self))
        return self[int(self._permutation(epoch, seed)[offset])]

    def _permutation(self, epoch: int, seed: int) -> np.ndarray:
        cached = getattr(self, "_cached_permutation", None)
        if cached is None or cached[0] != (epoch, seed, len(self)):
            order = np.random.default_rng(derive_seed(seed, "epoch", epoch)).permutation(len(self))
            self._cached_permutation = cached = ((epoch, seed, len(self)), order)
        return cached[1]
