"""Gold answers of public data: each equals itself, and none equals the answer of another problem by mistake."""

import json
import random
from functools import cache

import pytest

from reason_envs.rewards import grade_math_batch
from reason_envs.rewards.math.normalise import normalise, plain_number, word
from reason_envs.rewards.math.worker_pool import DEFAULT_POOL
from reason_envs.tasks.text import last_boxed

SIZES = {"gsm8k": 8792, "math500": 500, "aime24": 30, "amc23": 40, "minerva_math": 272}

FIXTURE = [
    "72", "1,250", "-3", "27.0", r"\frac{1}{2}", "0.75", r"\left( 3, \frac{\pi}{2} \right)", "p - q", r"6 - 5i",
    "x^2+7", r"\text{Evelyn}", "42^\\circ", "10\\%", r"(-\infty, 2]", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
    "x=5", "2k+2", r"\sqrt{51}", r"11,\! 111,\! 111,\! 100", "4.5e33", r"\{1, 2\}", r"\text{(E)}", r"\frac{M_0}{2}",
    "y = 2x + 3", r"x \in [-2,7]",
]  # fmt: skip

EQUAL_BY_CHANCE = {"minerva_math": {(66, 148): "2 and +2"}}
"""Shuffled pairs of problems whose answers are equal, but spelled differently."""
ALGEBRA_CANNOT_READ = {
    "math500": {383: "a statement with \\in"},
    "minerva_math": {
        5: "np.arcsin(10/13) is program text",
        261: "E_{0}: E is Euler's number",
        268: "E_{1}: E is Euler's number",
        269: "E_{1}: E is Euler's number",
    },
}
"""Gold answers that can be compared only by their spelling, by the number of the problem."""


def lines(*files):
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@cache
def read_answers(folder, name):
    if name == "gsm8k":
        rows = lines(folder / "train.jsonl", folder / "test.jsonl")
        return [row["answer"].rpartition("####")[2].strip() for row in rows]
    rows = lines(folder / "test.jsonl")
    return [last_boxed(row["solution"]) if name == "minerva_math" else str(row["answer"]) for row in rows]


@pytest.fixture
def gold_answers(real_data, name):
    return read_answers(real_data / name, name)


def shuffled_pairs(answers):
    order = list(range(len(answers)))
    random.Random(0).shuffle(order)
    return [(i, j) for i, j in enumerate(order) if normalise(answers[i]) != normalise(answers[j])]


def graded(answers, pairs):
    return grade_math_batch((rf"Therefore \boxed{{{answers[j]}}}.", answers[i]) for i, j in pairs)


def accepted(answers, pairs):
    return {pair for pair, grade in zip(pairs, graded(answers, pairs), strict=True) if grade.correct}


def is_for_algebra(answer):
    text = normalise(answer)
    return not ("=" in text or "matrix" in text or plain_number(text) is not None or word(text))


def unreadable(answers):
    """Return the answers for which algebra does not accept ``Q = answer``, without a comparison of spellings."""
    futures = {
        i: DEFAULT_POOL.submit(normalise(answer), f"Q={normalise(answer)}")
        for i, answer in enumerate(answers)
        if is_for_algebra(answer)
    }
    return {i for i, future in futures.items() if future.result() != "equal"}


def test_fixture_answers_equal_only_themselves():
    size = len(FIXTURE)
    pairs = [(i, (i + step) % size) for i in range(size) for step in range(6)]
    assert accepted(FIXTURE, pairs) == {(i, i) for i in range(size)}


def test_algebra_agrees_that_fixture_answers_equal_themselves():
    assert sum(map(is_for_algebra, FIXTURE)) > 10
    assert unreadable(FIXTURE) == {FIXTURE.index(r"x \in [-2,7]")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["math500", "minerva_math"])
def test_algebra_agrees_that_gold_answers_equal_themselves(gold_answers, name):
    assert unreadable(gold_answers) == set(ALGEBRA_CANNOT_READ[name])


@pytest.mark.parametrize("name", SIZES)
def test_every_gold_answer_equals_itself(gold_answers, name):
    assert len(gold_answers) == SIZES[name]
    grades = graded(gold_answers, [(i, i) for i in range(len(gold_answers))])
    wrong = [i for i, grade in enumerate(grades) if not grade.correct]
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_shuffled_gold_answers_are_wrong(gold_answers, name):
    pairs = shuffled_pairs(gold_answers)
    assert len(pairs) > 0.8 * len(gold_answers)
    assert accepted(gold_answers, pairs) == set(EQUAL_BY_CHANCE.get(name, {}))
