"""Metrics of step scores: ranking, calibration, and the first wrong step. Pure functions on arrays."""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from reason_envs.rewards.leak.expressions import evaluate

_EQUATION = re.compile(r"([-(]?\d[\d\s.+\-*/()]*?)\s*=\s*(-?\d+(?:\.\d+)?)")
ALL_RIGHT = -1
"""Index of the first wrong step of a solution without wrong steps."""
THRESHOLDS = np.linspace(0.01, 0.99, 99)
"""Candidates for the score below which a step counts as wrong."""


def roc_auc(scores: np.ndarray, right: np.ndarray) -> float:
    """Return the area under the ROC curve: the probability that a right step scores higher than a wrong one.

    Ties count half (Mann-Whitney). ``scores`` and the booleans ``right`` have the shape [N]. The result is NaN if all
    steps are right or all are wrong.
    """
    import pandas

    ranks = pandas.Series(scores).rank().to_numpy()
    positives, negatives = int(right.sum()), int((~right).sum())
    if not positives or not negatives:
        return float("nan")
    return float((ranks[right].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def expected_calibration_error(scores: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Return the mean gap between score and share of right steps over equally wide bins, weighted by their size."""
    bin_of = np.minimum((scores * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(bin_of, weights=scores - right)).sum() / len(scores))


def first_wrong(values: Sequence[float], threshold: float) -> int:
    """Return the index of the first value below a threshold, or `ALL_RIGHT`."""
    return next((i for i, value in enumerate(values) if value < threshold), ALL_RIGHT)


def process_f1(truth: Sequence[int], found: Sequence[int]) -> dict[str, float]:
    """Compare predicted first wrong steps with the truth, as ProcessBench does (arXiv 2412.06559).

    Both hold the index of each solution's first wrong step, or `ALL_RIGHT`.

    Returns:
        ``accuracy_wrong``: share of exact predictions among solutions with a wrong step. ``accuracy_right``: share of
        exact predictions among solutions without one. ``f1``: their harmonic mean. A metric is NaN without solutions of
        its kind.
    """
    wrong = [a == b for a, b in zip(truth, found, strict=True) if a != ALL_RIGHT]
    right = [a == b for a, b in zip(truth, found, strict=True) if a == ALL_RIGHT]
    shares = [sum(hits) / len(hits) if hits else float("nan") for hits in (wrong, right)]
    product, total = shares[0] * shares[1], shares[0] + shares[1]
    return {"accuracy_wrong": shares[0], "accuracy_right": shares[1], "f1": 2 * product / total if total else 0.0}


def best_threshold(scores: Sequence[Sequence[float]], labels: Sequence[Sequence[float]]) -> float:
    """Return the threshold with the highest ``f1`` of `process_f1`; the middle one of several.

    Scores and labels are those of the steps of each solution. A label of 0.5 or more is right.
    """
    truth = [first_wrong(row, 0.5) for row in labels]
    found = [[first_wrong(row, threshold) for row in scores] for threshold in THRESHOLDS]
    f1 = np.nan_to_num([process_f1(truth, row)["f1"] for row in found])
    best = np.flatnonzero(f1 == f1.max())
    return float(THRESHOLDS[best[len(best) // 2]])


def step_metrics(
    scores: Sequence[Sequence[float]], labels: Sequence[Sequence[float]], threshold: float
) -> dict[str, float]:
    """Summarise the scores of labelled solutions.

    A label of 0.5 or more is right, and a score below the threshold counts as wrong.

    Returns:
        Metrics over steps: ``steps``, ``right_share``, ``auc``, ``auc_last`` (last steps), ``auc_inner`` (all others),
        ``ece`` and ``brier``. Metrics over solutions: ``solutions`` and those of `process_f1`.
    """
    flat = np.array([score for row in scores for score in row])
    right = np.array([label >= 0.5 for row in labels for label in row])
    last = np.array([i == len(row) - 1 for row in labels for i in range(len(row))])
    return {
        "solutions": len(scores),
        "steps": len(flat),
        "right_share": float(right.mean()),
        "auc": roc_auc(flat, right),
        "auc_inner": roc_auc(flat[~last], right[~last]),
        "auc_last": roc_auc(flat[last], right[last]),
        "ece": expected_calibration_error(flat, right),
        "brier": float(np.mean((flat - right) ** 2)),
        **process_f1([first_wrong(row, 0.5) for row in labels], [first_wrong(row, threshold) for row in scores]),
    }


def quality(metrics: Mapping[str, Any]) -> str:
    """Return the held-out quality in the contents of ``metrics.json`` as one line."""
    test, share = metrics["test"], metrics["labels"]["right_share"]
    return (
        f"{share:.0%} of the steps to learn from are right; on {test['solutions']} held-out solutions AUC "
        f"{test['auc']:.3f} (last steps {test['auc_last']:.3f}, others {test['auc_inner']:.3f}), F1 of the first wrong "
        f"step {test['f1']:.3f}"
    )


def check_step(line: str) -> bool | None:
    """Return whether every equation of integers or decimals in a line holds; ``None`` if there is none."""
    equations = _EQUATION.findall(line)
    return all(evaluate(left) == Fraction(right) for left, right in equations) if equations else None
