"""Confidence intervals over seeds and problems."""

import numpy as np

SAMPLES = 10_000
"""Number of resamples."""


def crossed_bootstrap(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean of ``values`` [seeds, problems], with both axes resampled."""
    generator = np.random.default_rng(0)
    seeds, problems = values.shape
    means = [
        values[generator.integers(0, seeds, seeds)][:, generator.integers(0, problems, problems)].mean()
        for _ in range(SAMPLES)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
