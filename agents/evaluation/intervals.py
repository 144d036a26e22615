"""The held-out problems of an evaluation, and confidence intervals of means over them."""

import numpy as np

from reason_envs.core import derive_seed
from reason_envs.tasks.base import Task, TaskSet

BOOTSTRAP_SAMPLES = 2000
"""Number of resamples of `bootstrap_interval`."""
Z_SQUARED = 1.96**2
"""Square of the standard normal quantile of a 95 % interval."""


def first_tasks(tasks: TaskSet, count: int) -> list[Task]:
    """Return ``count`` problems of a set, or all of a smaller set. Every call returns the same shuffled sample."""
    return [tasks.ordered(i, seed=0) for i in range(min(count, len(tasks)))]


def bootstrap_interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a mean.

    Args:
        values: one number per task, [N].
        seed: seed of the resampling.

    Returns:
        Lower and upper end.
    """
    generator = np.random.default_rng(derive_seed(seed, "bootstrap"))
    picks = generator.integers(0, len(values), size=(BOOTSTRAP_SAMPLES, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [(1 - 0.95) / 2, (1 + 0.95) / 2])
    return float(low), float(high)


def share_interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean of shares.

    It is the bootstrap interval. If all shares are 0 or all are 1, that interval would be a point for any N, so
    Wilson's score bound replaces it.

    Args:
        values: one share between 0 and 1 per task, [N].
        seed: seed of the resampling.

    Returns:
        Lower and upper end.
    """
    if np.all(values == values[0]) and values[0] in (0.0, 1.0):
        off = Z_SQUARED / (len(values) + Z_SQUARED)
        return (0.0, off) if values[0] == 0.0 else (1.0 - off, 1.0)
    return bootstrap_interval(values, seed)
