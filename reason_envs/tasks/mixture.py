"""Mixtures of task families in exact ratios, and the one that the workflow environment uses by default."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from reason_envs.core import derive_seed
from reason_envs.errors import OptionError
from reason_envs.tasks.base import Split, Task, TaskSet
from reason_envs.tasks.registry import make
from reason_envs.tasks.task_list import check_count
from reason_envs.validation import mounted

FAMILIES = {"math": "chain_sum", "qa": "fact_qa", "code": "one_line_code"}
RATIOS: Mapping[str, float] = MappingProxyType({"math": 0.4, "qa": 0.3, "code": 0.3})
"""Family and share of each domain in `workflow_problems`."""


class MixtureTaskSet(TaskSet):
    """Several task sets by label, interleaved so that the set and nearly every part of it keep their ratios.

    The sum of the ratios must be 1. The seed shuffles the tasks of each part.
    """

    def __init__(
        self, split: Split, parts: Mapping[str, TaskSet], ratios: Mapping[str, float], size: int, seed: int
    ) -> None:
        self.name, self.split, self.parts, self.seed = "mixture", split, dict(parts), seed
        counts = apportion(list(ratios.values()), size)
        self.disjoint = all(part.disjoint for part in parts.values())
        self.left_out = _left_out(parts, dict(zip(ratios, counts, strict=True)))
        self._labels = list(ratios)
        self._part, self._turn = interleave(counts)

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self._part)

    def __getitem__(self, index: int) -> Task:
        """Return task ``index``. ``metadata["source"]`` is the label of its part."""
        if not 0 <= index < len(self):
            raise IndexError(f"Task {index} of {self.name!r} is outside 0..{len(self) - 1}.")
        label, turn = self._labels[self._part[index]], int(self._turn[index])
        part = self.parts[label]
        task = part.ordered(turn, derive_seed(self.seed, label))
        epoch = turn // len(part)
        task_id = f"{label}/{task.id}" + (f"#{epoch + 1}" if epoch else "")
        return Task(task_id, task.question, task.answer, {**task.metadata, "source": label})


def mixture(
    split: Split, *, parts: Any, size: int | None = None, seed: int = 0, max_samples: int | None = None
) -> MixtureTaskSet:
    """A mixture of other families in exact ratios.

    Args:
        split: ``"train"`` or ``"test"``.
        parts: ratios by family name (``{"chain_sum": 3, "gcd": 1}``), or mappings by label with a ratio, a family and
            its options (``{"school": {"ratio": 0.4, "name": "gsm8k", "path": "data"}}``). The name defaults to the
            label. Ratios are relative to their sum.
        size: number of tasks. ``None``: the maximum without repetition. A larger size repeats the parts that run out,
            each time in another order.
        seed: seed that shuffles the tasks of each part.
        max_samples: maximum number of tasks; the ratios are kept. ``None``: all.
    """
    if not isinstance(parts, Mapping) or not parts:
        raise OptionError("parts", parts, "must map names to ratios, such as {'chain_sum': 3, 'gcd': 1}.")
    specs = {label: dict(part) if isinstance(part, Mapping) else {"ratio": part} for label, part in parts.items()}
    ratios = {label: spec.pop("ratio", None) for label, spec in specs.items()}
    for label, ratio in ratios.items():
        number = isinstance(ratio, int | float) and not isinstance(ratio, bool)
        if not number or not math.isfinite(ratio) or ratio <= 0:
            raise OptionError(f"parts.{label}", parts[label], "needs a ratio above 0.")
    total, sets = math.fsum(ratios.values()), {}
    shares = {label: ratio / total for label, ratio in ratios.items()}
    for label, spec in specs.items():
        with mounted(f"parts.{label}"):
            sets[label] = make({"name": label, **spec}, split)
    whole = min(math.floor(len(tasks) / shares[label] + 1e-9) for label, tasks in sets.items())
    count = max(1, whole) if size is None else check_count("size", size)
    if max_samples is not None:
        count = min(count, check_count("max_samples", max_samples))
    return MixtureTaskSet(split, sets, shares, count, seed)


def apportion(shares: Sequence[float], size: int) -> list[int]:
    """Divide ``size`` tasks by shares whose sum is 1. The largest remainders get the tasks that are left over."""
    exact = [share * size for share in shares]
    # a rounding error, as in shares such as 0.1 + 0.2, must not remove a whole task
    counts = [math.floor(value + 1e-9) for value in exact]
    order = sorted(range(len(shares)), key=lambda i: (counts[i] - exact[i], i))
    for i in order[: size - sum(counts)]:
        counts[i] += 1
    return counts


def interleave(counts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Spread parts evenly over one sequence.

    Returns:
        For each position, the index of the part and the number of earlier positions with the same part.
    """
    part = np.repeat(np.arange(len(counts)), counts)
    turn = np.concatenate([np.arange(count) for count in counts])
    order = np.lexsort((part, (turn + 0.5) / np.asarray(counts)[part]))
    return part[order], turn[order]


def _left_out(parts: Mapping[str, TaskSet], counts: Mapping[str, int]) -> dict[str, int]:
    """Return what the parts leave out, and the tasks that the mixture does not use because a part is too small."""
    least = min(parts, key=lambda label: len(parts[label]) - counts[label])
    reasons = {
        f"of {label} to keep the ratios, because {least} has {len(parts[least]):,} (size=N repeats small parts)": n
        for label, count in counts.items()
        if (n := len(parts[label]) - count) > 0
    }
    inner = {f"of {label} {why}": n for label, part in parts.items() for why, n in part.left_out.items() if n}
    return {**inner, **reasons}


def workflow_problems(
    split: Split, *, ratios: Mapping[str, float] = RATIOS, size: int = 4000, seed: int = 0
) -> MixtureTaskSet:
    """Sums, questions about facts and one-line functions, mixed.

    Args:
        split: ``"train"`` or ``"test"``.
        ratios: share of each of the domains ``math``, ``qa`` and ``code``.
        size: number of tasks.
        seed: seed that shuffles the tasks of each domain.
    """
    parts = {domain: {"ratio": ratio, "name": FAMILIES.get(domain, domain)} for domain, ratio in ratios.items()}
    return mixture(split, parts=parts, size=size, seed=seed)
