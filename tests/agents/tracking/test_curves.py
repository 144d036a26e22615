"""The plot of a run's curves."""

import numpy as np
import pytest
from matplotlib.image import imread

from agents.tracking.curves import HELD_OUT, TRAIN, plot_curves, rolling_mean


def test_rolling_mean_has_known_values():
    assert rolling_mean([3.0] * 50) == pytest.approx(3.0)
    assert rolling_mean([0.0, 3.0, 6.0, 0.0]).tolist() == [1.5, 3.0, 3.0, 3.0]


def share_of(picture, color):
    wanted = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return (np.abs(picture[..., :3] - wanted).max(axis=-1) < 0.02).mean()


@pytest.mark.parametrize("steps", [0, 1, 5, 60])
def test_plot_curves_draws_recorded_curves(tmp_path, steps):
    rows = [{"step": s, "reward": s / 60, "accuracy": 0.5, "kl": None} for s in range(1, steps + 1)]
    plot_curves(rows, tmp_path / "plain.png")
    held_out = {"eval/accuracy": 0.6, "eval/accuracy_low": 0.5, "eval/accuracy_high": 0.7}
    plot_curves([*rows, {"step": 0, **held_out}, {"step": 60, **held_out}], tmp_path / "full.png", "title")
    plain, full = imread(tmp_path / "plain.png"), imread(tmp_path / "full.png")
    panels = 2 if steps else 1  # accuracy and reward; nothing else is recorded, and no panel is empty
    assert full.shape == (374, 440 * panels, 4)
    assert (share_of(plain, TRAIN) > 0) == (steps > 0)
    assert share_of(plain, HELD_OUT) == 0 < share_of(full, HELD_OUT)
