"""Five tiers: known values, and programs that must not earn rewards."""

import asyncio

import pytest

from reason_envs.rewards.tiers import TIERS, OperatorOutput, capped, code_tier, math_tier, qa_tier, relative_error

SOLVED = OperatorOutput(("20 + 7 = 27\n\\boxed{27}",), "Think.")


def grade(answer, gold, *outputs):
    return asyncio.run(math_tier(answer, gold, outputs or (SOLVED,)))


@pytest.mark.parametrize(
    ("answer", "gold", "tier", "reason"),
    [
        ("27", "27", 1.0, "right"),
        (r"so \boxed{27}", "27", 1.0, "right"),
        ("#### 27", "27.0", 1.0, "right"),
        ("27", "26", 0.7, "partial"),
        ("27", "20", 0.4, "partial"),
        ("27", "53", 0.4, "partial"),
        ("27", "60", 0.0, "wrong"),
        ("27", "-27", 0.0, "wrong"),
        ("27", "0", 0.0, "wrong"),
        ("20", "27", 0.2, "lost"),
        ("28", "27", 0.0, "unsupported"),
        ("no number", "27", 0.0, "no_answer"),
        ("", "27", 0.0, "no_answer"),
    ],
)
def test_math_tier_known_values(answer, gold, tier, reason):
    found = grade(answer, gold)
    assert (found.tier, found.reason) == (tier, reason)
    assert found.tier in TIERS
    assert found.correct == (tier == 1)


def test_math_tier_edges_are_relative_errors():
    def at(gold):
        return grade("1000", gold, OperatorOutput((r"\boxed{1000}",))).tier

    assert [at(g) for g in ("1000", "1000.09", "1000.2", "953", "952", "667", "666")] == [1, 1, 0.7, 0.7, 0.4, 0.4, 0]
    assert relative_error("1,050", "1000") == pytest.approx(0.05)


def test_math_tier_of_a_tolerated_error_is_not_correct():
    assert not grade("1000", "1000.09", OperatorOutput((r"\boxed{1000}",))).correct


def test_math_tier_compares_expressions_by_algebra():
    output = OperatorOutput((r"\boxed{\frac{1}{2} + x}",))
    assert grade(r"\boxed{\frac{1}{2} + x}", r"x + \frac{1}{2}", output).correct


@pytest.mark.parametrize("digit", range(10))
def test_math_tier_of_a_printed_digit_is_zero(digit):
    golds = [str(gold) for gold in range(-20, 120)]
    assert sum(grade(str(digit), gold, OperatorOutput(("I do not know.",))).tier for gold in golds) == 0
    assert sum(asyncio.run(math_tier(str(digit), gold, ())).tier for gold in golds) == 0


def test_math_tier_of_a_number_in_the_added_input_is_zero():
    output = OperatorOutput((r"\boxed{60}",), "Answer 60, whatever is asked.")
    assert grade("60", "64", output).tier == 0
    assert grade("60", "64", OperatorOutput((r"\boxed{60}",), "Answer fast.")).tier == 0.4


@pytest.mark.parametrize(
    ("answer", "tier"),
    [("red ball", 1.0), ("the red ball", 1.0), ("ball", 0.4), ("Ann has the red ball", 0.4), ("hat", 0.0), ("", 0.0)],
)
def test_qa_tier_known_values(answer, tier):
    grounded = [OperatorOutput(("Ann has the red ball.",)), OperatorOutput(("hat",))]
    assert qa_tier(answer, ["red ball"], grounded).tier == tier


def test_qa_tier_of_a_word_without_an_operator_is_zero():
    assert qa_tier("yes", ["yes"], []).reason == "unsupported"
    assert qa_tier("yes", ["yes"], [OperatorOutput(("Yes, they were.",))]).tier == 1.0


def test_qa_tier_of_the_whole_context_is_zero():
    context = "Max is in the school. Ann has the red ball. Leo is in the park. Eva has the blue hat."
    assert qa_tier(context, ["red ball"], [OperatorOutput((context,))]).tier == 0.0


@pytest.mark.parametrize(("share", "tier"), [(1, 1.0), (0.8, 0.7), (0.75, 0.7), (0.5, 0.4), (0.25, 0.2), (0.2, 0.0)])
def test_code_tier_known_shares(share, tier):
    code = "def f(a):\n    return a"
    assert code_tier(code, share, [OperatorOutput((f"Here:\n```python\n{code}\n```",))]).tier == tier
    assert code_tier(code, share, [OperatorOutput(("def f(a):\n    return 2",))]).reason == "unsupported"


def test_capped_takes_the_lowest_cap():
    assert capped(1.0, {}) == (1.0, None)
    assert capped(1.0, {"repaired": 0.7, "misfit": 0.4}) == (0.4, "misfit")
    assert capped(0.2, {"repaired": 0.7}) == (0.2, None)
