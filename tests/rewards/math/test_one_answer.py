"""An answer has one value. Known values of spellings, units and bases."""

from itertools import product

import pytest

from reason_envs.rewards import grade_math_batch

MATRIX = r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"
VALUES = ["5", "50", r"\frac{14}{3}", r"2\sqrt{3}", r"\frac{\pi}{4}", MATRIX,
          "(1,2)", "[2,5)", r"\{1,2\}", "x+1", "x>3", r"\text{Friday}", r"45^\circ"]  # fmt: skip
HEDGES = [
    r"\boxed{A or B}", r"\boxed{A \text{ or } B}", r"\boxed{A, B}", r"\boxed{A; B}", r"\boxed{A B}",
    r"\boxed{x = A = B}",
    r"\boxed{A \text{ (maybe } B}", r"\boxed{A \text{ or maybe } B)}", r"\boxed{A \approx B}",
    r"\boxed{A \text{ cm } B}",
    r"\boxed{A \quad B}", r"\boxed{$A$ or $B$}", r"\boxed{A / B}", r"\boxed{x = A, x = B}",
    r"\boxed{\{A, B\}}", r"\boxed{(A, B)}", r"\boxed{[A, B]}", r"\boxed{\begin{pmatrix} A \\ B \end{pmatrix}}",
]  # fmt: skip


def filled(form, one, other):
    return form.replace("A", "@").replace("B", other).replace("@", one)


@pytest.mark.parametrize("form", HEDGES)
def test_grade_refuses_two_values(form):
    pairs = [(one, other) for one, other in product(VALUES, VALUES) if one != other][::3]
    if "=" in form:  # words can be names: Area = 12
        pairs = [(one, other) for one, other in pairs if "text" not in one]
    cases = [(filled(form, one, other), gold) for one, other in pairs for gold in (one, other)]
    grades = grade_math_batch(cases)
    assert [case for case, grade in zip(cases, grades, strict=True) if grade.correct] == []


RIGHT = {
    r"\begin{pmatrix} -1/3 \\ 2/3 \\ 5/3 \end{pmatrix}": [
        r"\begin{pmatrix}-1/3\\2/3\\5/3\end{pmatrix}", r"\begin{bmatrix} -1/3 \\ 2/3 \\ 5/3 \end{bmatrix}",
        r"\begin{pmatrix} -\frac{1}{3} \\[2pt] \frac{2}{3} \\ \frac{5}{3} \\ \end{pmatrix}"],
    r"\frac{1}{2}": [r"\displaystyle\frac{1}{2}", r"\cfrac{1}{2}", r"\frac 12", r"\dfrac12", r"\tfrac{1}2", "0.5"],
    r"\frac{5}{9}": [r"\frac 59", r"\frac5{9}"],
    "5": [r"\displaystyle 5", r"\approx 5", "5.", "€5", "5元", "5 €", r"\$5", "5 USD", "5 cm", r"5\text{ cm}^2", "x=5",
          "5 m", "5个", r"2+3=5", r"AB = 5", r"f(2)=5", r"5\ \mathrm{km/h}", "=5", r"5\text{ sq. units}"],
    "18 dollars": ["18", r"\$18", "18 dollars", r"18\text{ dollars}"],
    "€5": ["5", "€5", r"5\text{ euros}"],
    "5元": ["5", "5元"],
    r"\$1,000": ["1000", r"1\,000", "1,000 dollars"],
    "7 million": ["7,000,000", "7 million", r"7\text{ million dollars}", r"7\times 10^6"],
    "7000000": ["7 million", r"\$7\text{ million}"],
    "1011_2": ["1011_2", "1011_{2}", "(1011)_2"],
    r"2\sqrt{3}": [r"2\sqrt{3}\text{ cm}", r"2\sqrt 3", r"2\sqrt{3} \approx 3.46", r"\sqrt{12} = 2\sqrt{3}"],
    r"20^\circ": [r"20^\circ\text{C}", "20°", "20"],
    "x=5": ["5", "5=x", r"x = \frac{10}{2} = 5"],
    "1,2": ["2, 1", r"x=1 \text{ or } x=2", r"\{1,2\}"],
}  # fmt: skip
WRONG = {
    "7": ["-x=7", "2x=7", "x+5=7", "5=7", "x^2=7", "7 million", r"7\text{ million}", "7 thousand", "7x", "7t", r"\pi=7",
          r"7\text{ or }8", r"7\text{ or eight}", "7½", "7_8", "|x|=7", "7 billion dollars"],
    "1011_2": ["1011_3", "1011_{10}", "11", "1011_{16}"],
    "x=5": ["x=7=5", "y=5", "x=7"],
    "18 dollars": ["19", "18 million dollars"],
    "x+2": ["x+2d", r"x+2\text{ or }x"],
    r"2\sqrt{3}": [r"2\sqrt{3} \approx 50", r"2\sqrt{3} = 5"],
}  # fmt: skip


@pytest.mark.parametrize(("gold", "answers"), RIGHT.items())
def test_grade_accepts_every_spelling(gold, answers):
    grades = grade_math_batch((rf"\boxed{{{answer}}}", gold) for answer in answers)
    assert [answer for answer, grade in zip(answers, grades, strict=True) if not grade.correct] == []


@pytest.mark.parametrize(("gold", "answers"), WRONG.items())
def test_grade_refuses_other_values(gold, answers):
    grades = grade_math_batch((rf"\boxed{{{answer}}}", gold) for answer in answers)
    assert [answer for answer, grade in zip(answers, grades, strict=True) if grade.correct] == []
