import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.reward_model.metrics import (
    ALL_RIGHT,
    best_threshold,
    expected_calibration_error,
    first_wrong,
    process_f1,
    roc_auc,
    step_metrics,
)


def test_roc_auc_of_known_numbers():
    scores, right = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    assert roc_auc(scores, right) == 0.75
    assert roc_auc(np.array([0.5, 0.5, 0.5]), np.array([True, False, True])) == 0.5
    assert roc_auc(scores, ~right) == 0.25
    assert math.isnan(roc_auc(scores, np.ones(4, bool)))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_roc_auc_is_the_share_of_ordered_pairs(rows):
    scores, right = np.array([s / 5 for s, _ in rows]), np.array([r for _, r in rows])
    pairs = [(a > b) + (a == b) / 2 for a in scores[right] for b in scores[~right]]
    assert roc_auc(scores, right) == pytest.approx(np.mean(pairs) if pairs else math.nan, nan_ok=True)


def test_calibration_errors_of_known_numbers():
    scores, right = np.array([0.9, 0.9, 0.9, 0.9, 0.2, 1.0]), np.array([True, True, True, False, False, True])
    # Bins [0.9, 1] of five with mean 0.92 and 4 of 5 right, and [0.2, 0.3) of one.
    assert expected_calibration_error(scores, right) == pytest.approx((5 * 0.12 + 0.2) / 6)
    assert step_metrics([scores], [right], 0.5)["brier"] == pytest.approx((3 * 0.01 + 0.81 + 0.04) / 6)


def test_process_f1_of_known_numbers():
    truth = [ALL_RIGHT, ALL_RIGHT, 0, 2, 1]
    found = [ALL_RIGHT, 3, 0, 1, ALL_RIGHT]
    result = process_f1(truth, found)
    assert result == {"accuracy_wrong": pytest.approx(1 / 3), "accuracy_right": 0.5, "f1": pytest.approx(0.4)}
    assert process_f1([0, ALL_RIGHT], [1, 1])["f1"] == 0
    assert math.isnan(process_f1([ALL_RIGHT], [ALL_RIGHT])["f1"])
    assert [first_wrong(row, 0.5) for row in ([0.9, 0.5], [0.9, 0.4, 0.1], [])] == [ALL_RIGHT, 1, ALL_RIGHT]


def test_best_threshold_separates_right_from_wrong_steps():
    labels = [[1.0, 1.0], [1.0, 0.0], [0.0]]
    scores = [[0.8, 0.72], [0.9, 0.31], [0.2]]
    threshold = best_threshold(scores, labels)
    assert threshold == pytest.approx(0.52, abs=0.02)  # the middle of the gap
    metrics = step_metrics(scores, labels, threshold)
    assert (metrics["f1"], metrics["auc"], metrics["auc_last"], metrics["steps"]) == (1.0, 1.0, 1.0, 5)
    assert math.isnan(metrics["auc_inner"])  # every wrong step is a last step
