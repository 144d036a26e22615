"""Task sets in memory, and the split of sources without official splits."""

import hashlib
from collections.abc import Sequence

from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.tasks.base import Split, Task, TaskSet, split_of


class MissingSplitError(ReasonEnvsError):
    """A source does not have the requested split."""


class ListTaskSet(TaskSet):
    """A task set in memory."""

    def __init__(self, name: str, split: Split, tasks: Sequence[Task], skipped: int = 0) -> None:
        """Store tasks.

        Args:
            name: name of the set.
            split: ``"train"`` or ``"test"``.
            tasks: the tasks in order.
            skipped: number of records without an answer that were left out on request.
        """
        self.name, self.split, self.skipped = name, split, skipped
        self._tasks = tuple(tasks)

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self._tasks)

    def __getitem__(self, index: int) -> Task:
        """Return task ``index``."""
        if not 0 <= index < len(self._tasks):
            raise IndexError(f"Task {index} of {self.name!r} is outside 0..{len(self._tasks) - 1}.")
        return self._tasks[index]


def by_hash(tasks: Sequence[Task], split: Split) -> list[Task]:
    """Return the tasks of a split. The hash of a question decides to which split its task belongs."""
    return [task for task in tasks if split_of(task.question) == split]


def first_samples(tasks: Sequence[Task], max_samples: int | None) -> list[Task]:
    """Return at most ``max_samples`` tasks in their order: those whose question has the smallest hash.

    Files are often sorted by subject or difficulty, so the first tasks would be a biased sample. The choice depends on
    the questions alone. A larger ``max_samples`` includes the choice of a smaller one.
    """
    if max_samples is None or check_count("max_samples", max_samples) >= len(tasks):
        return list(tasks)
    ranked = sorted(range(len(tasks)), key=lambda i: (_rank(tasks[i].question), i))
    return [tasks[i] for i in sorted(ranked[:max_samples])]


def check_count(option: str, value: int) -> int:
    """Return ``value`` if it is a whole number of at least 1; raise `OptionError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(option, value, "must be a whole number of at least 1.")
    return value


def empty_split(source: object, split: Split, skipped: int, fix: str = "") -> MissingSplitError:
    """Build the error for a split without tasks. ``fix`` is appended to the advice to add problems."""
    return MissingSplitError(
        f"No problem of {source} is in the {split} split ({skipped} without an answer were left out). A fifth of the "
        f"problems, by the hash of the question, is for testing; a small set can have none there: add problems{fix}."
    )


def _rank(question: str) -> bytes:
    # the split uses the same hash without a salt, so the smallest hashes would all be in one split
    return hashlib.blake2b(question.encode(), digest_size=8, salt=b"sample").digest()
