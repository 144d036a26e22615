from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reason_envs.rewards.math.normalise import normalise, plain_number, quick_verdict, word
from reason_envs.rewards.math.worker import judge


def spelled(value: Fraction, style: int) -> str:
    text = f"{value.numerator}" if value.denominator == 1 else f"{float(value):.6f}".rstrip("0")
    return [text, f"${text}$", f"\\${text}", f" {text} ", f"{text}."][
        style % 5 if value.denominator == 1 else style % 4
    ]


numbers = st.one_of(
    st.integers(-(10**12), 10**12).map(Fraction),
    st.integers(-(10**8), 10**8).map(lambda n: Fraction(n, 1000)),
)


@given(numbers, st.integers(0, 4), st.integers(0, 4))
def test_quick_verdict_accepts_every_spelling_of_a_number(value, one, other):
    assert quick_verdict(normalise(spelled(value, one)), normalise(spelled(value, other))) in ("equal", "string_match")


@given(numbers, numbers)
def test_quick_verdict_is_exact(one, other):
    verdict = quick_verdict(normalise(spelled(one, 0)), normalise(spelled(other, 0)))
    assert (verdict != "different") == (one == other)


@given(numbers, numbers, st.booleans())
@settings(deadline=None)
def test_quick_verdict_agrees_with_math_verify(one, other, same):
    gold, answer = spelled(one, 0), spelled(one if same else other, 0)
    assert (quick_verdict(gold, answer) != "different") == (judge(gold, answer) == "equal")


@given(st.integers(-99, 99), st.integers(1, 99), numbers, st.integers(1, 5), st.booleans())
@settings(deadline=None)
def test_quick_verdict_of_ratios_agrees_with_math_verify(numerator, denominator, other, factor, same):
    gold = f"{numerator}/{denominator}"
    ratio = rf"\frac{{{numerator * factor}}}{{{denominator * factor}}}"
    for answer in (ratio if same else spelled(other, 0), str(numerator), f"{numerator / denominator:.6f}"):
        verdict = quick_verdict(gold, answer)
        assert verdict is None or (verdict != "different") == (judge(gold, answer) == "equal")
    assert quick_verdict(gold, ratio) == "equal"


@given(st.text(max_size=40))
def test_normalise_never_raises_and_equal_strings_match(text):
    assert quick_verdict(normalise(text), normalise(text)) == "string_match"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
        (r"\dfrac{1}{2}", r"\frac{1}{2}"),
        (r"11,\! 111,\! 111,\! 100", "11,111,111,100"),
        (r"10{,}000", "10,000"),
        (r"60\,000", "60,000"),
        ("4.5e33", r"4.5\times 10^{33}"),
        ("-1./3", "-1/3"),
        ("−3", "-3"),
        (r"\sin x + 1", r"\sin x+1"),
        (r"\(12\)", "12"),
        (r"0.\overline{3}", r"0.\overline{3}"),
        ("1 1/2", "1 1/2"),
        (r"\leftarrow", r"\leftarrow"),
        ("2e", "2e"),
    ],
)
def test_normalise_known_values(written, text):
    assert normalise(written) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234", Fraction(1234)),
        ("-.5", Fraction(-1, 2)),
        ("007", Fraction(7)),
        ("1,23", None),
        ("", None),
        ("-", None),
        ("-1/2", Fraction(-1, 2)),
        (r"\frac{-6}{4}", Fraction(-3, 2)),
        ("1/0", None),
        ("1 1/2", None),
        ("0.1234567", None),
        ("12345678901234.56", None),
        ("9" * 5000, None),
    ],
)
def test_plain_number_known_values(text, value):
    assert plain_number(text) == value


@pytest.mark.parametrize(
    ("gold", "answer", "reason"),
    [
        (r"\text{Friday}", "friday", "string_match"),
        (r"\text{(E)}", "E", "string_match"),
        (r"\text{listen}", "silent", "different"),
        ("True", "true", "string_match"),
        ("True", "False", None),
        (r"3\text{ cm}", "3", None),
    ],
)
def test_quick_verdict_compares_words(gold, answer, reason):
    assert quick_verdict(normalise(gold), normalise(answer)) == reason
    assert word("ab") is None


def test_quick_verdict_leaves_expressions_to_algebra():
    assert quick_verdict("x+1", "1+x") is None
    assert quick_verdict("1+i", "i+1") is None
