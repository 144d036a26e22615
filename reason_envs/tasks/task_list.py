"""Sets of problems held in memory, and how a set without official splits is divided."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.base import Split, Task, TaskSet, split_of


class MissingSplitError(ReasonEnvsError):
    """A source lacks the split that was asked for."""


class ListTaskSet(TaskSet):
    """Problems that are all in memory."""

    def __init__(self, name: str, split: Split, tasks: Sequence[Task], skipped: int = 0) -> None:
        """Hold tasks.

        Args:
            name: the set's name.
            split: which split they are.
            tasks: the problems.
            skipped: how many records of the source were left out on request because they lack an answer.
        """
        self.name, self.split, self.skipped = name, split, skipped
        self._tasks = tuple(tasks)

    def __len__(self) -> int:
        """Number of problems."""
        return len(self._tasks)

    def __getitem__(self, index: int) -> Task:
        """Return problem ``index``."""
        if not 0 <= index < len(self._tasks):
            raise IndexError(f"Problem {index} of {self.name!r} is outside 0..{len(self._tasks) - 1}.")
        return self._tasks[index]


def by_hash(tasks: Sequence[Task], split: Split) -> list[Task]:
    """Keep the tasks whose text belongs to a split."""
    return [task for task in tasks if split_of(task.question) == split]


def first_samples(tasks: Sequence[Task], max_samples: int | None) -> list[Task]:
    """Keep at most ``max_samples`` tasks: those whose text has the smallest hash, in their old order.

    Files are often sorted by subject or difficulty, so the first ones would be no fair sample. The choice depends on
    the texts alone, and a larger ``max_samples`` keeps what a smaller one kept.
    """
    if max_samples is None or check_count("max_samples", max_samples) >= len(tasks):
        return list(tasks)
    ranked = sorted(range(len(tasks)), key=lambda i: (_rank(tasks[i].question), i))
    return [tasks[i] for i in sorted(ranked[:max_samples])]


def check_count(option: str, value: int) -> int:
    """Return a count that must be a positive whole number."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ReasonEnvsError(f"{option} is a whole number of at least 1, not {value!r}.")
    return value


def empty_split(source: object, split: Split, skipped: int, fix: str = "") -> MissingSplitError:
    """Build the error for a source of which no problem is left; ``fix`` is what helps besides more problems."""
    return MissingSplitError(
        f"No problem of {source} is in the {split} split ({skipped} without an answer were left out). The hash of the "
        f"questions puts a fifth into test, which can leave a small set without any: add problems{fix}."
    )


def _rank(question: str) -> bytes:
    # salted: unsalted, the smallest hashes are the ones that the split puts together
    return hashlib.blake2b(question.encode(), digest_size=8, salt=b"sample").digest()
