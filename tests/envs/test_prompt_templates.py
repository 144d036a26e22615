"""Prompt templates with places to fill."""

import pytest

from reason_envs.envs.prompt_templates import PLANNER_PROMPT, SOLVER_PROMPT, check_places, fill
from reason_envs.errors import ReasonEnvsError


def test_fill_keeps_other_braces():
    assert fill("{a} and {b} in {c}", a="{b}", b=r"\frac{1}{a}") == r"{b} and \frac{1}{a} in {c}"


def test_solver_prompt_asks_for_a_box():
    text = fill(SOLVER_PROMPT, question="Q", guideline="G")
    assert text.index("Q") < text.index("G") < text.index(r"\boxed{}")
    assert "Q" in fill(PLANNER_PROMPT, question="Q")


def test_check_places_names_the_missing_place():
    check_places("prompt", "{question}", ["question"])
    with pytest.raises(ReasonEnvsError, match=r"prompt='Go' must contain \{question\}"):
        check_places("prompt", "Go", ["question"])
