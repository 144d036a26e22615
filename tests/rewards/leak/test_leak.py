"""The leak check: what gives an answer away, and what does not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reason_envs.rewards.leak.find import find_leak, without_list_numbers

QUESTION = "Each of 7 friends picks six apples. How many apples are there?"


@pytest.mark.parametrize(
    "guideline",
    [
        "42",
        "The answer is 42.",
        "Remember forty-two.",
        "It comes to Forty two apples",
        "6*7",
        "Compute 6 x 7, or 6x7.",
        "Multiply: six times seven",
        r"$6 \times 7$",
        "6 × 7",
        "6 · 7 = ?",
        r"\frac{84}{2}",
        r"\boxed{42}",
        "84/2",
        "40 + 2",
        "(50 - 8)",
        "42.0",
        r"\sqrt{1764}",
        "6 multiplied by 7",
        "2 * 3 * 7 + 1 - 1",
        "1. Read it.\n2. Write 42.",
        "Step 42: rest",
        "42. Multiply",
        "Say $42",
    ],
)
def test_expressions_with_the_value_of_the_answer_leak(guideline):
    assert find_leak(guideline, QUESTION, "42") is not None


@pytest.mark.parametrize(
    "guideline",
    [
        "",
        "Multiply the number of friends by the apples of each.",
        "There are 7 friends with 6 apples each; multiply.",
        "Write 7 + 7 + 7 and so on.",
        "It is the 42nd problem.",
        "-42",
        "142 and 420 and 4.2",
        "The answer has 2 digits.",
        "x42",
    ],
)
def test_other_numbers_do_not_leak(guideline):
    assert find_leak(guideline, QUESTION, "42") is None


@pytest.mark.parametrize(
    ("guideline", "answers"),
    [
        ("1. Read. 2. Multiply. 3. Check.", "123"),
        ("1. Read\n2. Multiply\n3. Check", "123"),
        ("1) Read\n2) Multiply", "12"),
        ("(1) Read (2) Multiply", "12"),
        ("1. read it 2. multiply 3. check", "123"),
        ("Step 1: read. Step 2: multiply. Step 3: check", "123"),
        ("step 1 read\nstep 2 multiply", "12"),
        ("First list:\n1. a\n2. b\nSecond list:\n1. c\n2. d", "12"),
        ("- Read.\n- Multiply.\n* Check.", "123"),
        ("Do the following: 1. Read. 2. Multiply.", "12"),
    ],
)
def test_list_numbers_do_not_leak(guideline, answers):
    assert [find_leak(guideline, "?", answer) for answer in answers] == [None] * len(answers)


@pytest.mark.parametrize(
    ("guideline", "answer"),
    [
        ("The answer is 1. Write it down.", "1"),
        ("1. Read.\n2. It is 3. Done.", "3"),
        ("1. Read. The result is 2. Done.", "2"),
        ("3. Write it.", "3"),
        ("1. Read. 3. Write.", "3"),
    ],
)
def test_numbers_that_look_like_list_numbers_leak(guideline, answer):
    assert find_leak(guideline, "?", answer) == answer


def test_quotes_of_the_question_do_not_leak():
    question = "State the final answer to the following arithmetic problem: 4 + 5 - 2 ="
    assert find_leak("Work out 4 + 5 - 2 from left to right.", question, "7") is None
    assert find_leak("Work out 4+5-2.", question, "7") is None
    assert find_leak("Take 4 + 5 = 9 and then 9 - 2.", question, "7") == "9 - 2"
    assert find_leak("Take 5 + 4 - 2.", question, "7") == "5 + 4 - 2"
    assert find_leak("Look at 42.", "Is 42 even or odd? Answer with the number or 0.", "42") is None
    assert find_leak("Look at forty-two.", "Is 42 the largest of 3 and 42?", "42") is None
    assert find_leak("Note the 4 and the 8.", "Find a + b where -4 < 2(x - 1) < 8 is a < x < b.", "4") is None
    assert find_leak("So -9.", "What is 4 - 9 - 4?", "-9") == "- 9", "the question subtracts 9, it has no -9"


def test_the_word_one_leaks_only_when_announced():
    assert find_leak("Go one step at a time, one by one, and check each one.", "4 - 3", "1") is None
    assert find_leak("The answer is one.", "4 - 3", "1") == "1"
    assert find_leak("minus one", "3 - 4", "-1") == "- 1"


@pytest.mark.parametrize(
    ("guideline", "answer", "leaks"),
    [
        ("It is 1,764.", "1764", True),
        (r"It is 10{,}080.", r"10,\!080", True),
        ("So 0.5", r"\frac{1}{2}", True),
        ("sqrt(3)/2", r"\frac{\sqrt{3}}{2}", True),
        (r"$2\sqrt{3}$", r"2\sqrt{3}", True),
        (r"$\frac{\pi}{4}$", r"\frac{\pi}{4}", True),
        ("18 of them", "18 dollars", True),
        ("It is 864.", r"864 \mbox{ inches}^2", True),
        ("45 degrees", r"45^\circ", True),
        ("use x + 1 here", "x+1", True),
        ("use 2x + 1 here", "x+1", False),
        ("the point (1, 2)", r"\left( 1, 2 \right)", True),
        ("the point (1, 3)", r"\left( 1, 2 \right)", False),
        ("x = 5, so 5", "x=5", True),
        ("The answer is (B).", "B", True),
        (r"\boxed{B}", r"\text{(B)}", True),
        ("A good approach: be careful.", "A", False),
        ("Go east of the line.", r"\text{east}", False),
        ("The answer is east.", r"\text{east}", True),
    ],
)
def test_answers_of_every_kind_can_leak(guideline, answer, leaks):
    assert (find_leak(guideline, "?", answer) is not None) == leaks


@given(st.integers(-999, 999).filter(lambda n: n not in (0, 1, 2)), st.integers(2, 50))
def test_arithmetic_with_any_answer_leaks(answer, other):
    for text in (f"{answer}", f"{answer - other} + {other}", f"{answer * other} / {other}", f"({answer}) * 1"):
        assert find_leak(f"Note that {text} matters.", "Solve it.", str(answer)) is not None


@given(st.text(alphabet="0123456789+-*/^(){}.,x =\\frasqtpi\n", max_size=60))
def test_find_leak_accepts_any_text(text):
    assert find_leak(text, text, "42") is None, "what stands in the question as a whole is a quote"
    find_leak(text, "", "42")


@pytest.mark.parametrize(
    "text",
    [
        "1/3*" * 5000 + "1",
        "((1/3)^64)^64",
        "9" * 20_000,
        "2^" * 10_000 + "2",
        "-" * 20_000 + "1",
        "\\sqrt{" * 3000,
        "(" * 10_000 + "1" + ")" * 10_000,
        "forty-" * 3000 + "two",
        "1. " * 6000,
        "1. 2. 3. " * 2000,
        "1+" * 10_000 + "1",
        "one hundred and " * 1200,
    ],
    ids=lambda text: text[:12],
)
def test_find_leak_is_fast_on_hostile_texts(text):
    started = time.perf_counter()
    find_leak(text, "What is 4 + 5?", "42")
    find_leak("42", text, "7")
    assert time.perf_counter() - started < 5


def test_without_list_numbers_removes_only_list_numbers():
    assert without_list_numbers("1. Add 3 and 4.\n2. Box 7.") == " Add 3 and 4.\n Box 7."


HONEST = (
    "Work step by step and check every result.",
    "1. List what is given. 2. Find what is asked. 3. Choose a method. 4. Solve and verify.",
    "Name the unknown and set up an equation; then solve for it and put the value back in.",
    "Keep a running total and write each intermediate result on its own line, one at a time.",
)


def test_honest_guidelines_do_not_leak():
    """The rate on thousands of problems: benchmarks/rewards/leak_check.py."""
    answers = [*map(str, range(-50, 200)), r"\frac{1}{2}", "x+1", "B", r"\text{east}", "(1,2)"]
    stopped = [(text, answer) for text in HONEST for answer in answers if find_leak(text, "?", answer)]
    print(f"honest guidelines stopped: {len(stopped)} of {len(HONEST) * len(answers)}")
    assert stopped == []
