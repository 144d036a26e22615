"""SQuAD's F1, with known values."""

import pytest

from reason_envs.rewards.qa import f1, normalise_words


@pytest.mark.parametrize(
    ("prediction", "answers", "value"),
    [
        ("The Red ball!", ["red ball"], 1.0),
        ("a ball", ["red ball"], 2 / 3),
        ("Chief of Protocol", ["chief of staff", "Protocol"], 2 / 3),
        ("yes", ["yes"], 1.0),
        ("yes it is", ["yes"], 0.0),
        ("no", ["no one"], 0.0),
        ("", ["x"], 0.0),
        ("the", ["a"], 0.0),
        ("x", [], 0.0),
    ],
)
def test_f1_known_values(prediction, answers, value):
    assert f1(prediction, answers) == pytest.approx(value)


def test_f1_of_a_copied_passage_is_low():
    passage = "Max is in the school. Ann has the red ball. Leo is in the park. Eva has the blue hat."
    assert f1(passage, ["red ball"]) < 0.3
    assert set(normalise_words("red ball")) <= set(normalise_words(passage))
