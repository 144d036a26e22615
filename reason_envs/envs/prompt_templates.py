"""Prompts with places to fill: an environment's defaults, on which the embedded models were trained."""

from __future__ import annotations

import re
from collections.abc import Iterable

from reason_envs.errors import ReasonEnvsError

PLANNER_PROMPT = "Write a short guideline for solving this problem. Do not solve it.\n\n{question}"
"""What a planner is asked."""
SOLVER_PROMPT = "{question}\n\nFollow this guideline:\n{guideline}\n\nPut the final answer in \\boxed{}."
"""What the solver is asked that reads a planner's guideline."""


def fill(template: str, **texts: str) -> str:
    """Put texts into their places ``{name}``; every other brace, and every brace in the texts, stays as it is."""
    places = "|".join(re.escape(f"{{{name}}}") for name in texts)
    return re.sub(places, lambda match: texts[match[0][1:-1]], template)


def check_places(option: str, template: str, names: Iterable[str]) -> None:
    """Refuse a template that lacks a place.

    Args:
        option: the template's name, for the error.
        template: the text.
        names: of the places that it needs.
    """
    for name in names:
        if f"{{{name}}}" not in template:
            raise ReasonEnvsError(f"{option}={template!r} must say where the {name} goes: write {{{name}}} there.")
