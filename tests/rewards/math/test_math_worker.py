import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reason_envs.rewards.math.normalise import normalise
from reason_envs.rewards.math.worker import judge

EQUAL = [
    ("1/2", "0.5"),
    (r"\frac{1}{3}", r"\frac13"),
    ("1/3", "0.333333"),
    (r"\sqrt{2}", "1.414214"),
    (r"2\sqrt{3}", r"\sqrt{12}"),
    ("x^2+2x+1", "(x+1)^2"),
    (r"\{1,2\}", "2,1"),
    (r"\left(3, \frac{\pi}{2}\right)", r"(3,\pi/2)"),
    ("42", "x=42"),
    ("x=5", "5"),
    ("x>3", "3<x"),
    (r"x \in [1,2]", "[1,2]"),
    ("1<x<2", "(1,2)"),
    ("1+274i", "274i+1"),
    ("10!", "3628800"),
    ("4.5e33", r"45 \times 10^{32}"),
    ("6.02214076e23", "602214076000000000000000"),
]
MENDED_EQUAL = [  # math-verify alone says they differ
    (r"45^\circ", r"\frac{\pi}{4}"),
    (r"\frac{\pi}{4}", r"45^{\circ}"),
    (r"60^\circ", r"\pi/3"),
    (r"50\%", "0.5"),
    (r"50\%", "50"),
    ("0.5", r"50\%"),
    (r"12.5\%", r"\frac{1}{8}"),
    (r"120^\circ", "120 degrees"),
]
DIFFERENT = [
    ("1/3", "0.333"),
    (r"\sqrt{2}", "1.4142"),
    ("42", r"42 \text{ or } 43"),
    ("(1,2)", "(2,1)"),
    ("[0,1]", "(0,1)"),
    (r"\{1,2,3\}", r"\{1,2\}"),
    ("10^{100}", "10^{100}+1"),
    ("x>3", r"x \ge 3"),
    ("y=2x", "y=3x"),
    (r"50\%", r"0.5\%"),
    (r"60^\circ", r"\pi/4"),
    ("120", r"\frac{2\pi}{3}"),
    ("1.23", "1.24"),
    ("i", "-i"),
]
MENDED_DIFFERENT = [  # math-verify alone says they are equal
    (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"),
    (r"(0, \frac{1}{2^{99}})", r"(0, \frac{1}{2^{98}})"),
    (r"1.6 \times 10^{-19}", r"2 \times 10^{-20}"),
    ("0.00001", "0.0000104"),
    ("2+2=5", "1=3"),
    (r"\sin x=2", "x^2=-1"),
]
EQUATIONS = [("x=5", "5=x"), ("y=2x", "2x-y=0"), ("y=2x", r"x=\frac{y}{2}"), ("xy=1", r"x=\frac{1}{y}"), ("a=b", "b=a")]
KNOWN_WRONG = {
    ("no", "on"): ("equal", "bare letters are a product in any order; words are safe in \\text{}"),
    (r"\sqrt{-1}", "i"): ("different", "i is a name like any other unless the text looks complex"),
    ("(1,2)", "1<x<2"): (
        "different",
        "a pair of numbers may be a point; only an inequality as gold may be answered by an interval",
    ),
}


@pytest.mark.parametrize(("gold", "answer"), EQUAL + MENDED_EQUAL + EQUATIONS)
def test_judge_equal_answers(gold, answer):
    assert judge(normalise(gold), normalise(answer)) == "equal"


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT + MENDED_DIFFERENT)
def test_judge_different_answers(gold, answer):
    assert judge(normalise(gold), normalise(answer)) == "different"


@pytest.mark.parametrize(("gold", "answer"), [("5", r"\frac{5"), ("np.arcsin(10/13)", "1")])
def test_judge_unparsable_answers(gold, answer):
    assert judge(normalise(gold), normalise(answer)) == "unparsable"


@pytest.mark.parametrize(("pair", "known"), KNOWN_WRONG.items(), ids=[" vs ".join(pair) for pair in KNOWN_WRONG])
def test_judge_known_wrong_verdicts(pair, known):
    """They are listed so that a change is noticed; each has its reason."""
    verdict, reason = known
    assert judge(normalise(pair[0]), normalise(pair[1])) == verdict, reason


@given(st.integers(-(10**6), 10**6), st.integers(1, 10**4), st.integers(1, 50))
@settings(max_examples=50, deadline=None)
def test_judge_compares_fractions_exactly(numerator, denominator, factor):
    gold = rf"\frac{{{numerator}}}{{{denominator}}}"
    assert judge(gold, rf"\frac{{{numerator * factor}}}{{{denominator * factor}}}") == "equal"
    assert judge(gold, rf"\frac{{{numerator + 1}}}{{{denominator}}}") == "different"
