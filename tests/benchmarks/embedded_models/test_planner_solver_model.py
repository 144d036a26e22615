"""The demonstrations of planner and solver, and the embedded model that was trained on them."""

from __future__ import annotations

import json
from collections import Counter
from random import Random

import pytest

from agents.reward_model.metrics import check_step
from benchmarks.embedded_models.base.demonstrations import running_sums
from benchmarks.embedded_models.base.evaluation import default_problems
from benchmarks.embedded_models.planner_solver import guidelines as ours
from benchmarks.embedded_models.planner_solver.card import METRICS_FILE, card, expression_of, kind_of, measure
from benchmarks.embedded_models.planner_solver.guidelines import Guideline, PlannerAndSolver, best_kind, follow, grouped
from reason_envs.llm import embedded, make_engine
from reason_envs.rewards.leak.find import find_leak
from reason_envs.tasks.base import split_of

SHORT, LONG = "12 - 5 + 33", "12 - 5 + 33 - 7 + 4"


def followed(kind, expression, count=400):
    """Return the share of correct answers in the demonstrations that follow a kind of guideline."""
    rng = Random(0)
    guideline = Guideline(kind, ours.WORDINGS[kind][0])
    answer = running_sums(expression)[1]
    return sum(follow(guideline, expression, rng).endswith(f"\\boxed{{{answer}}}") for _ in range(count)) / count


@pytest.mark.parametrize("expression", [SHORT, LONG, "5 - 3 - 1", "4 + 2 + 9", "0 - 0 + 7 - 99 - 12 + 1"])
def test_grouped_solutions_are_correct(expression):
    *steps, last = grouped(expression).split("\n")
    assert all(check_step(step) for step in steps)
    assert last == f"\\boxed{{{running_sums(expression)[1]}}}"


def test_grouped_known_values():
    assert grouped(LONG) == "12 + 33 = 45\n45 + 4 = 49\n5 + 7 = 12\n49 - 12 = 37\n\\boxed{37}"
    assert grouped("4 + 2 + 9") == "4 + 2 = 6\n6 + 9 = 15\n\\boxed{15}"


def test_follow_succeeds_with_the_best_kind_for_the_length():
    assert (best_kind(SHORT), best_kind(LONG)) == ("running", "grouped")
    for expression in (SHORT, LONG):
        best, other = ("running", "grouped") if expression == SHORT else ("grouped", "running")
        assert followed(best, expression) == 1
        assert followed(other, expression) == pytest.approx(1 - ours.FORGET, abs=0.07)


def test_follow_misleading_guidelines():
    for text in ours.WORDINGS["misleading"]:
        wrong = follow(Guideline("misleading", text), LONG, Random(0))
        assert not wrong.endswith(f"\\boxed{{{running_sums(LONG)[1]}}}")


def test_follow_copies_a_stated_answer():
    assert follow(Guideline("stated", "The answer is 5.", 5), SHORT, Random(0)) == r"\boxed{5}"


def test_demonstrations_have_both_roles_and_the_train_split():
    rng, source = Random(1), PlannerAndSolver(ours.SKILLS)
    drawn = [source.draw(rng, 0) for _ in range(600)]
    assert all(split_of(d.problem) == d.split == "train" for d in drawn)
    assert all(d.problem in d.question for d in drawn)
    roles = Counter(d.family for d in drawn)
    assert roles["planner"] / len(drawn) == pytest.approx(ours.SKILLS.share, abs=0.05)
    kinds = Counter(kind_of(d.solution) for d in drawn if d.family == "planner")
    assert kinds.keys() == ours.WORDINGS.keys()


def test_shares_sum_to_one():
    for shares in (ours.SKILLS.kinds, ours.HABITS.kinds, ours.FOLLOWED):
        assert shares.keys() == ours.WORDINGS.keys()
        assert sum(shares.values()) == pytest.approx(1)


def test_only_stated_answers_leak():
    rng = Random(2)
    for _ in range(300):
        question, expression = next(ours.train_sums(rng))
        answer = str(running_sums(expression)[1])
        guideline = ours.draw_guideline(rng, expression, ours.HABITS.kinds, usual=ours.HABITS.usual)
        given = answer.removeprefix("-") in question.replace("+", " ").split() and not answer.startswith("-")
        leaks = guideline.kind == "stated" and not given
        assert (find_leak(guideline.text, question, answer) is not None) == leaks, (question, guideline)


# --- the model


@pytest.fixture(scope="module")
def metrics():
    return json.loads((embedded.path("planner_solver") / METRICS_FILE).read_text())


def test_card_is_written_from_the_metrics(metrics):
    assert (embedded.path("planner_solver") / "MODEL_CARD.md").read_text() == card(metrics)


def test_metrics_leave_room_to_learn(metrics):
    solver = metrics["solver"]
    assert 0.2 < metrics["untrained_planner"]["solver_right"] < 0.45
    assert metrics["best_for_each_length"] > 0.8
    assert solver["running"]["short"] > solver["running"]["long"] + 0.5
    assert solver["grouped"]["long"] > solver["grouped"]["short"] + 0.5


def test_metrics_can_be_reproduced(metrics):
    engine = make_engine("transformers", model="embedded:planner_solver", device="cpu")
    problems = default_problems(128, seed=3)
    found = measure(engine, problems, seed=3)
    assert found["best_for_each_length"] == pytest.approx(metrics["best_for_each_length"], abs=0.1)
    assert found["untrained_planner"]["kinds"]["other"] < 0.1
    assert expression_of(problems[0]) in problems[0].question
