"""Confidence intervals over seeds and problems."""

import numpy as np

SAMPLES = 10_000
"""Number of resamples."""


def crossed_bootstrap(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean of ``values`` [seeds, problems], with both axes resampled."""
    generator = np.random.default_rng(0)
    seeds, problems = values.shape
    draws = [(generator.integers(0, seeds, seeds), generator.integers(0, problems, problems)) for _ in range(SAMPLES)]
    rows, columns = (np.stack(each) for each in zip(*draws, strict=True))
    means = values[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
