"""The most frequent of several answers."""

import pytest

from agents.evaluation.vote import vote


@pytest.mark.parametrize(
    ("answers", "weights", "winner"),
    [
        (["7"], None, 0),
        (["5", "7", "7"], None, 1),
        (["5", "7"], None, 0),
        (["7", "5", r"$7$", "5", "5"], None, 1),
        ([r"\dfrac{1}{2}", "3", r"\frac{1}{2}"], None, 0),
        (["5", "7", "7"], [0.9, 0.3, 0.3], 0),
        (["5", "7", "7"], [0.5, 0.3, 0.3], 1),
        (["5", "7"], [0.0, 0.0], 0),
    ],
)
def test_vote_chooses_the_first_answer_with_the_highest_sum(answers, weights, winner):
    assert vote(answers, weights) == winner
