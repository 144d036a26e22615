"""Numbers in any notation, and computations that are none."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reason_envs.rewards import grade_math_batch
from reason_envs.rewards.math.normalise import normalise, quick_verdict
from reason_envs.rewards.math.notation import asks_for_number, is_computation, read_number, without_unit

NUMBERS = {
    "7": ["7", "7.0", "(7)", "{7}", r"\{7\}", r"\text{7}", r"\mathbf{7}", "x=7", "x = 3+4 = 7", "+7",
          r"\$7", "$7$", "7 dollars", "x = 7 dollars per hour", "7 apples", r"7\text{ cm}^2",
          r"7\text{ cm^2}", r"7 \mathrm{~km/h}", "14/2", r"\frac{14}{2}",
          r"\frac{-14}{-2}", "7^1", "7^{1}", r"\sqrt{49}", r"\sqrt[3]{343}", "7%",
          r"7\%", r"7^\circ", r"7^{\circ}", "7 per hour"],
    "1000": ["1,000", r"1{,}000", r"1\,000", "10^3", r"10^{3}", r"1 \times 10^3", "1e3", r"\$1,000.00"],
    "4.5": [r"4\frac{1}{2}", "9/2", r"\frac92", r"\frac{9}2", "4.50", r"45 \cdot 10^{-1}", r"4.5\text{ m}"],
    r"\frac{14}{3}": [r"\dfrac{14}{3}", "14/3", r"\frac{28}{6}", r"4\frac{2}{3}", r"-\frac{14}{-3}", "(14/3)"],
    "0.5": [r"\frac12", "50%", r"50\%", "50 percent", ".5", "5e-1"],
    "-8": ["-8", "(-2)^3", "(-2)^{3}", r"-\frac{16}{2}"],
}  # fmt: skip
COMPUTATIONS = {
    "68": ["23-4+57-8", "x=23-4+57-8", r"23-4+57-8^{1}", "|23-4|+57-8", "23-4+57-8x^0", "68x^0", "68:1", "--68", "68_2",
           "68+0", r"68\cdot1", "68-0", "-(-68)", "67+x^0", r"\lfloor 68.5 \rfloor", r"\max(68, 3)", r"\frac{60+8}{1}",
           r"\frac{\frac{68}{1}}{1}", "|68|", "23-4+57-8 apples", r"23-4+57-8\text{ cm}", "1=23-4+57-8",
           "{23-4+57-8}", r"\{23-4+57-8\}", r"\text{23-4+57-8}", "69-1!", "4(17)", "(4)(17)", "4 17", "2^3+60",
           r"\sqrt{4}+66", r"68\times 10^0 + 0"],
    "6": ["3!", r"\binom{4}{2}", r"\sqrt{36}+0", "2(3)", r"\gcd(6,12)"],
    r"\frac{3}{4}": [r"\frac{1}{2}+\frac{1}{4}", r"\frac{1}{2}\cdot\frac{3}{2}", "1-1/4"],
    r"4.5\times 10^{33}": [r"4.5\times 10^{3}\times 10^{30}"],
    r"7\text{ cm}": ["3+4", r"(3+4)\text{ cm}"],
}  # fmt: skip


@pytest.mark.parametrize(("gold", "answers"), NUMBERS.items())
def test_grade_accepts_every_notation_of_a_number(gold, answers):
    assert asks_for_number(normalise(gold))
    assert [answer for answer in answers if read_number(normalise(answer)) is None] == []
    grades = grade_math_batch((rf"\boxed{{{answer}}}", gold) for answer in answers)
    assert [answer for answer, grade in zip(answers, grades, strict=True) if not grade.correct] == []


@pytest.mark.parametrize(("gold", "answers"), COMPUTATIONS.items())
def test_grade_refuses_computations_for_a_number(gold, answers):
    assert [answer for answer in answers if read_number(normalise(answer))] == []
    grades = grade_math_batch((rf"\boxed{{{answer}}}", gold) for answer in answers)
    assert [answer for answer, grade in zip(answers, grades, strict=True) if grade.correct] == []


@pytest.mark.parametrize("answer", ["3+4", "x=3+4", r"3 \cdot 4", "(3+4)", "|3|+4", "3+4 apples", "9^2+1", "2-1"])
def test_is_computation_of_plain_arithmetic(answer):
    assert is_computation(normalise(answer))
    assert quick_verdict("7", normalise(answer)) == "unevaluated"


@pytest.mark.parametrize("answer", ["7", "3+4=7", "(1,-2)", "x+1", r"42 \text{ or } 43", r"3\times 10^{5}"])
def test_is_computation_leaves_other_expressions_to_algebra(answer):
    assert not is_computation(normalise(answer))


def test_equal_expressions_are_unevaluated():
    reasons = [g.reason for g in grade_math_batch((rf"\boxed{{{a}}}", "68") for a in ("68x^0", "60+8", "67x^0", "67"))]
    assert reasons == ["unevaluated", "unevaluated", "different", "different"]


@pytest.mark.parametrize(
    "gold", [r"2\sqrt{3}", "2^{10}", "x+1", r"45^\circ", r"\pi", "x=5", r"\text{Friday}", "(1,2)", "2k", "1+2i"]
)
def test_asks_for_number_is_false_for_other_gold_answers(gold):
    assert not asks_for_number(normalise(gold))


def test_grade_accepts_expressions_for_expressions():
    pairs = [(r"\sqrt{12}", r"2\sqrt{3}"), ("1024", "2^{10}"), (r"\frac{\pi}{4}", r"45^\circ"), ("1+x", "x+1")]
    assert all(grade.correct for grade in grade_math_batch((rf"\boxed{{{a}}}", gold) for a, gold in pairs))


@given(st.integers(-(10**6), 10**6), st.lists(st.integers(-99, 99), min_size=1, max_size=4))
def test_read_number_is_none_for_sums(first, others):
    text = normalise(str(first) + "".join(f"{n:+d}" for n in others))
    assert is_computation(text)
    assert read_number(text) is None
    assert read_number(f"{text}={first + sum(others)}")


@given(st.text("0123456789+-*/^(){}|.,=x%\\ ", max_size=60))
def test_read_number_and_is_computation_accept_any_text(text):
    assert not (read_number(normalise(text)) and is_computation(normalise(text)))


@pytest.mark.parametrize(
    "filler", ["a", "a ", " a", "ab.", "1", "1 ", "1+", "1,", "(", "{", "\\text{a}", "\\frac", "a/", "^2", "="]
)
def test_notation_is_fast_on_long_answers(filler):
    for answer in ("5" + filler * 2000 + "!", filler * 2000, "5 " + filler * 2000):
        started = time.perf_counter()
        read_number(answer)
        is_computation(answer)
        without_unit(answer)
        assert time.perf_counter() - started < 2
