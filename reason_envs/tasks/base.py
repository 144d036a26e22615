"""Tasks and task sets: the types that every task family returns."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from reason_envs.core import derive_seed

Split = Literal["train", "test"]
TEST_SHARE = 0.2
"""Share of the tasks that the hash assigns to the test split, for families that generate their tasks."""


@dataclass(frozen=True)
class Task:
    """One problem with its gold answer.

    Fields: ``id`` (unique in its task set), ``question`` (text for the model), ``answer`` (gold answer as text) and
    ``metadata`` (further data, such as tests).
    """

    id: str
    """Unique id within the task set; the same in every run."""
    question: str
    """Text of the problem, as the model reads it."""
    answer: str
    """Gold answer, which the grader compares with."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Further data of the family, such as a worked solution, the difficulty or tests. Default: empty."""


def split_of(question: str, share: float = TEST_SHARE) -> Split:
    """Assign a question to ``"train"`` or ``"test"`` (a ``share`` of all) by the hash of its text alone."""
    digest = hashlib.blake2b(question.encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "big") / 2**64 < share else "train"


class TaskSet(ABC):
    """A finite, indexable set of tasks. Task ``i`` is the same at every call."""

    name: str
    """Name of the task set."""
    split: Split
    """Split of the tasks: ``"train"`` or ``"test"``."""
    left_out: Mapping[str, int] = MappingProxyType({})
    """Number of problems of the source that the set leaves out, by reason, such as ``"without an answer"``."""
    disjoint: bool = True
    """Whether the other split has other problems. It has the same ones if the source is one file, used whole."""
    _cached_permutation: tuple[tuple[int, int, int], np.ndarray] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Number of tasks."""

    @abstractmethod
    def __getitem__(self, index: int) -> Task:
        """Return task ``index``, with ``0 <= index < len``.

        Raises:
            IndexError: the index is outside this range.
        """

    def __iter__(self) -> Iterator[Task]:
        """Iterate over every task in order."""
        return (self[i] for i in range(len(self)))

    def sample(self, seed: int) -> Task:
        """Return the task of an episode: a pure function of the episode's seed."""
        return self[derive_seed(seed, "task") % len(self)]

    def ordered(self, position: int, seed: int) -> Task:
        """Return the task at ``position`` of endless shuffled epochs: a pure function of both numbers."""
        epoch, offset = divmod(position, len(self))
        key = (epoch, seed, len(self))
        if self._cached_permutation is None or self._cached_permutation[0] != key:
            order = np.random.default_rng(derive_seed(seed, "epoch", epoch)).permutation(len(self))
            self._cached_permutation = (key, order)
        return self[int(self._cached_permutation[1][offset])]
