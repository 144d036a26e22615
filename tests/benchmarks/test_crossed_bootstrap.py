"""Intervals over seeds and problems."""

import numpy as np
import pytest

from benchmarks.crossed_bootstrap import crossed_bootstrap


def test_crossed_bootstrap_is_wider_if_seeds_differ():
    assert crossed_bootstrap(np.full((3, 9), 0.4)) == (pytest.approx(0.4), pytest.approx(0.4))
    problems = np.tile([0.0, 1.0], (3, 200))
    half = 1.96 * 0.5 / 20
    assert crossed_bootstrap(problems) == (pytest.approx(0.5 - half, abs=0.01), pytest.approx(0.5 + half, abs=0.01))
    apart = crossed_bootstrap(np.array([[0.0] * 400, [0.5] * 400, [1.0] * 400]))
    assert apart[0] < 0.2 < 0.8 < apart[1]
