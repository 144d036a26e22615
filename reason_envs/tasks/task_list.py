"""Task sets in memory, and the split of sources without official splits."""

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.tasks.base import TEST_SHARE, Split, Task, TaskSet, split_of

NO_ANSWER = "without an answer"
"""Reason for which records are left out on request."""
SEPARATE_FILES = (
    ", or give one file per split: path={train: FILE, test: FILE}, in quotes (for agents.train "
    "'env.tasks.path={train: FILE, test: FILE}')"
)
"""Advice if the hash leaves a split of one file empty."""


class MissingSplitError(ReasonEnvsError):
    """A source does not have the requested split."""


class ListTaskSet(TaskSet):
    """A task set in memory.

    ``left_out`` counts the problems that were left out, by reason. ``disjoint`` says whether the other split has other
    problems.
    """

    def __init__(
        self,
        name: str,
        split: Split,
        tasks: Sequence[Task],
        left_out: Mapping[str, int] = MappingProxyType({}),
        *,
        disjoint: bool = True,
    ) -> None:
        self.name, self.split, self.left_out, self.disjoint = name, split, left_out, disjoint
        self._tasks = tuple(tasks)

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self._tasks)

    def __getitem__(self, index: int) -> Task:
        """Return task ``index``."""
        if not 0 <= index < len(self._tasks):
            raise IndexError(f"Task {index} of {self.name!r} is outside 0..{len(self._tasks) - 1}.")
        return self._tasks[index]


def split_tasks(
    name: str,
    split: Split,
    tasks: Sequence[Task],
    source: object,
    *,
    official: bool,
    holdout: float = 0.0,
    skipped: int = 0,
    max_samples: int | None = None,
) -> ListTaskSet:
    """Build the task set of a split from the tasks of a source, which is named in errors.

    An ``official`` source has only this split. Of any other, the hash of the questions puts the share ``holdout`` into
    the test split; 0: both splits have all tasks. ``skipped`` records without an answer were left out before.

    Raises:
        MissingSplitError: the split is empty.
    """
    if not 0 <= holdout < 1:
        raise OptionError("holdout", holdout, "must be at least 0 and below 1.")
    if official and holdout:
        raise OptionError("holdout", holdout, "is for a single file: remove it, or set path to one file.")
    chosen = by_hash(tasks, split, holdout) if holdout else tasks
    if not chosen:
        raise MissingSplitError(
            f"No problem of {source} is in the {split} split ({skipped} without an answer were left out). With "
            f"holdout={holdout} the hash of the question decides: add problems, set another holdout{SEPARATE_FILES}."
        )
    kept = first_samples(chosen, max_samples)
    left_out = {NO_ANSWER: skipped, "beyond max_samples": len(chosen) - len(kept)}
    return ListTaskSet(name, split, kept, left_out, disjoint=official or holdout > 0)


def by_hash(tasks: Sequence[Task], split: Split, holdout: float = TEST_SHARE) -> list[Task]:
    """Return the tasks of a split. The hash of a question decides to which split its task belongs."""
    return [task for task in tasks if split_of(task.question, holdout) == split]


def first_samples(tasks: Sequence[Task], max_samples: int | None) -> list[Task]:
    """Return at most ``max_samples`` tasks in their order: those whose question has the smallest hash.

    Files are often sorted by subject or difficulty, so the first tasks would be a biased sample. The choice depends on
    the questions alone. A larger ``max_samples`` includes the choice of a smaller one.
    """
    if max_samples is None or check_count("max_samples", max_samples) >= len(tasks):
        return list(tasks)
    # The split uses the same hash without a salt, so the smallest hashes would all be in one split.
    ranks = [hashlib.blake2b(task.question.encode(), digest_size=8, salt=b"sample").digest() for task in tasks]
    return [tasks[i] for i in sorted(sorted(range(len(tasks)), key=lambda i: (ranks[i], i))[:max_samples])]


def check_count(option: str, value: int) -> int:
    """Return ``value`` if it is a whole number of at least 1; raise `OptionError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(option, value, "must be a whole number of at least 1.")
    return value
