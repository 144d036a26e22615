"""Prompts with places to fill."""

import pytest

from reason_envs.envs.prompt_templates import PLANNER_PROMPT, SOLVER_PROMPT, check_places, fill
from reason_envs.errors import ReasonEnvsError


def test_texts_go_into_their_places_and_keep_their_braces():
    assert fill("{a} and {b} in {c}", a="{b}", b=r"\frac{1}{a}") == r"{b} and \frac{1}{a} in {c}"


def test_the_solver_is_asked_for_a_box():
    text = fill(SOLVER_PROMPT, question="Q", guideline="G")
    assert text.index("Q") < text.index("G") < text.index(r"\boxed{}")
    assert "Q" in fill(PLANNER_PROMPT, question="Q")


def test_a_missing_place_is_explained():
    check_places("prompt", "{question}", ["question"])
    with pytest.raises(ReasonEnvsError, match=r"prompt='Go' must contain \{question\}"):
        check_places("prompt", "Go", ["question"])
