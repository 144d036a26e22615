"""A response has one answer: what it offers besides is a part of it. Known values of spellings, units and bases."""

import re
from itertools import product

import pytest

from reason_envs.rewards import extract_answer, grade_math_batch

MATRIX = r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"
VALUES = ["5", "50", r"\frac{14}{3}", r"2\sqrt{3}", r"\frac{\pi}{4}", MATRIX,
          "(1,2)", "[2,5)", r"\{1,2\}", "x+1", "x>3", r"\text{Friday}", r"45^\circ"]  # fmt: skip
HEDGES = [
    r"\boxed{A or B}", r"\boxed{A \text{ or } B}", r"\boxed{A, B}", r"\boxed{A; B}", r"\boxed{A B}",
    r"\boxed{x = A = B}",
    r"\boxed{A \text{ (maybe } B}", r"\boxed{A \text{ or maybe } B)}", r"\boxed{A \approx B}",
    r"\boxed{A \text{ cm } B}",
    r"\boxed{A \quad B}", r"\boxed{$A$ or $B$}", r"\boxed{A / B}", r"\boxed{x = A, x = B}", r"\boxed{A \boxed{B}}",
    r"\boxed{A} or \boxed{B}", r"$\boxed{A}$ or $\boxed{B}$", r"\boxed{A}, \boxed{B}", r"\boxed{A} \boxed{B}",
    r"\boxed{A}\boxed{B}", r"\boxed{A} and \boxed{B}", "\\boxed{A}.\nOr it is \\boxed{B}.", r"A or \boxed{B}",
    r"The answer is $A$ or $\boxed{B}$.", r"A \boxed{B}", r"\boxed{B} or A", r"\boxed{B} (or $A$)",
    r"\boxed{\{A, B\}}", r"\boxed{(A, B)}", r"\boxed{[A, B]}", r"\boxed{\begin{pmatrix} A \\ B \end{pmatrix}}",
    r"either A or \boxed{B}", r"It is either $A$ or $\boxed{B}$.", r"\boxed{A} maybe \boxed{B}",
    r"\boxed{B}, or alternatively $A$", r"$A$, $\boxed{B}$", r"A, \boxed{B}", r"A / \boxed{B}", r"\boxed{B} / A",
    r"\boxed{A \text{ and } B}", r"\boxed{\text{either } A \text{ or } B}", r"\boxed{A \mid B}", r"\boxed{A \lor B}",
    r"\boxed{A \vee B}", r"\boxed{A | B}", r"\boxed{A \text{ to } B}", r"\boxed{A \sim B}", r"\boxed{A \to B}",
    r"\boxed{A \neq B}", r"\boxed{A \le B}", r"\boxed{A < B}", r"\boxed{A (B)}", r"\boxed{A \& B}", r"\boxed{A \\ B}",
    r"\boxed{A : B}", r"\boxed{A ? B}", r"\boxed{A \text{ (or } B \text{)}}", r"\boxed{A \pm B}",
    r"The answer is A. \boxed{B}", r"The answer is $A$. $\boxed{B}$", "The answer is $A$.\n\n\\boxed{B}",
    "Answer: A\n\\boxed{B}", r"\boxed{B} A", r"The answer is \boxed{B} or $A$.", r"**A** or **\boxed{B}**",
    r"Answer: $A$ or $\boxed{B}$", r"\boxed{A}; \boxed{B}", r"\boxed{A}/\boxed{B}", r"\boxed{A} | \boxed{B}",
    "\\boxed{A}\n\\boxed{B}", "\\boxed{A}\n\n\\boxed{B}", "$$\\boxed{A}$$\n$$\\boxed{B}$$", r"\boxed{A} & \boxed{B}",
    r"\boxed{B} else A", r"\boxed{B} or possibly $A$", r"($A$) or (\boxed{B})", r"\boxed{A} \text{ or } \boxed{B}",
    r"\[ \boxed{A} \quad \text{or} \quad \boxed{B} \]", r"\boxed{A} $\lor$ \boxed{B}", r"\boxed{A}, maybe \boxed{B}",
    r"Possible answers: $A$, $\boxed{B}$", r"The answers are $A$ and $\boxed{B}$.", r"$A$ and $\boxed{B}$",
    r"$\boxed{B}$ and $A$", r"$\boxed{B}$, $A$", r"\boxed{B}; $A$", r"\boxed{B}\quad A", r"A \quad \boxed{B}",
    "- A\n- \\boxed{B}", r"\boxed{A \text{ if not } B}", r"\boxed{A \text{ otherwise } B}", r"\boxed{B}, perhaps $A$",
    r"\boxed{B} (maybe $A$)", r"\boxed{B} (alternatively, $A$)", r"\boxed{B} ($A$)",
    r"The answer is $A$, or \boxed{B}.", r"\boxed{\text{A or B}}", r"\boxed{\frac{A}{1}, B}",
    r"\boxed{\begin{cases} A \\ B \end{cases}}", r"\boxed{\begin{array}{c} A \\ B \end{array}}",
    r"\boxed{\{A\}, \{B\}}", r"\boxed{\left[A, B\right]}", r"\boxed{A,\ B}", r"\boxed{A,B}", r"\boxed{A;B}",
    r"\boxed{B \quad (A)}", r"\boxed{A\ \text{or}\ B}", r"\boxed{A \text{ or maybe } B}",
    r"\boxed{\text{maybe } A, \text{maybe } B}", r"Answer: \boxed{A} Answer: \boxed{B}",
]  # fmt: skip


def filled(form, one, other):
    return re.sub(r"\b[AB]\b", lambda match: one if match[0] == "A" else other, form)


def hedges(step):
    """Yield responses with two values, each with one of them as the gold answer."""
    for number, form in enumerate(HEDGES):
        pairs = [pair for pair in product(VALUES, VALUES) if pair[0] != pair[1]][number % step :: step]
        for one, other in pairs:
            is_name = "text" in one and "=" in form  # words can be names: Area = 12
            is_unit = "text" in one and re.search(r"\\boxed\{B\}\W*(\bquad\W*|and\W*)?A", form)
            is_one_value = {one, other} == {r"\frac{\pi}{4}", r"45^\circ"}
            if not is_name and not is_unit and not is_one_value:
                yield from ((filled(form, one, other), gold) for gold in (one, other))


def accepted(cases):
    return [case for case, grade in zip(cases, grade_math_batch(cases), strict=True) if grade.correct]


@pytest.mark.slow
def test_grade_refuses_responses_with_two_values():
    cases = list(hedges(16))
    assert len(cases) > 2_000
    assert accepted(cases) == []


@pytest.mark.parametrize(
    "form", [r"$A \approx \boxed{B}$", r"$\boxed{B} \approx A$", r"$A = \boxed{B}$", r"$\boxed{B} = A$"]
)
def test_grade_refuses_two_numbers_that_are_said_to_be_equal(form):
    numbers = ["5", "50", "0.5", r"\frac{14}{3}", "-7"]
    pairs = [pair for pair in product(numbers, numbers) if pair[0] != pair[1]]
    assert accepted([(filled(form, one, other), gold) for one, other in pairs for gold in (one, other)]) == []
    assert (
        len(accepted([(filled(form, r"\frac{9}{2}", "4.5"), "4.5"), (filled(form, "4.5", r"\frac{9}{2}"), "4.5")])) == 2
    )


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"50\% \boxed{50}", r"50\% \text{or} 50"),
        (r"\boxed{1} and \boxed{2}", r"1 \text{or} 2"),
        (r"\boxed{5}, \boxed{5}", "5"),
        (r"18 \boxed{18.0}", "18.0"),
        (r"\boxed{7} or 5", r"5 \text{or} 7"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"First \boxed{1}, then \boxed{2}", "2"),
        (r"\boxed{5}. Wait: \boxed{7}", "7"),
        (r"In 2024, \boxed{7}", "7"),
        (r"For $n = 10$, \boxed{55}", "55"),
        ("\\[x^2 = 49\\]\n\\[\\boxed{7}\\]", "7"),
        (r"3 + \boxed{4} = 7", "4"),
        (r"3 \times \boxed{7}", "7"),
        (r"\boxed{5}\text{ cm}^2", "5"),
        (r"\boxed{5}\%", "5"),
        (r"\boxed{x=5} \quad (3)", "x=5"),
        (r"\boxed{5} or more", "5"),
        (r"(a) \boxed{3}", "3"),
        (r"\therefore \boxed{5}", "5"),
        (r"There are 3 apples and 4 pears. The answer is \boxed{7}.", "7"),
        (r"$x \equiv \boxed{3} \pmod{7}$", "3"),
        (r"$v = \boxed{7.3e14} s^{-1}$", "7.3e14"),
        (r"$\frac{1}{2} = \boxed{50\%}$", r"50\%"),
        (r"$\frac{22}{7} \approx \boxed{3.14}$", "3.14"),
        (r"The first term is 5. \boxed{7}", "7"),
        ("The answer is 5. Wait, I forgot 2.\nThe answer is \\boxed{7}.", "7"),
        ("The answer is 5.\n\\boxed{7}", r"5 \text{or} 7"),
        ("$2\\sqrt{3}$\n$$\\boxed{12}$$", "12"),
        (r"\boxed{7} (see (3))", "7"),
        (r"\boxed{0.5} ($50\%$)", "0.5"),
        (r"5 or \boxed{}", None),
    ],
)
def test_extract_answer_reads_what_is_beside_the_box(response, answer):
    assert extract_answer(response) == answer


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
    "3.46": [r"2\sqrt{3} \approx 3.46"],
    r"20^\circ": [r"20^\circ\text{C}", "20°", "20"],
    "x=5": ["5", "5=x", r"x = \frac{10}{2} = 5"],
    "1,2": ["2, 1", r"x=1 \text{ or } x=2", r"\{1,2\}"],
}  # fmt: skip
WRONG = {
    "7": ["-x=7", "2x=7", "x+5=7", "5=7", "x^2=7", "7 million", r"7\text{ million}", "7 thousand", "7x", "7t", r"\pi=7",
          r"7\text{ or }8", r"7\text{ or eight}", "7½", "7_8", "|x|=7", "7 billion dollars", r"7 \approx 7.05"],
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
