"""Prompt templates with places to fill. The embedded models were trained on the default texts."""

import re
from collections.abc import Iterable

from reason_envs.core import Message
from reason_envs.errors import OptionError

PLANNER_PROMPT = "Write a short guideline for solving this problem. Do not solve it.\n\n{question}"
"""Default prompt of the planner."""
SOLVER_PROMPT = "{question}\n\nFollow this guideline:\n{guideline}\n\nPut the final answer in \\boxed{}."
"""Default prompt of the solver, which reads the planner's guideline."""


def fill(template: str, **texts: str) -> str:
    """Replace each place ``{name}`` by its text; every other brace stays as it is, also inside the texts."""
    places = "|".join(re.escape(f"{{{name}}}") for name in texts)
    return re.sub(places, lambda match: texts[match[0][1:-1]], template)


def chat(user: str, system: str | None = None) -> list[Message]:
    """Return a user message, after a system message if there is one."""
    head = [] if system is None else [{"role": "system", "content": system}]
    return [*head, {"role": "user", "content": user}]


def check_places(option: str, template: str, names: Iterable[str]) -> None:
    """Check that the template of an option has every place, such as ``{question}``, that it needs.

    Raises:
        OptionError: a place is missing.
    """
    for name in names:
        if f"{{{name}}}" not in template:
            raise OptionError(option, template, f"must contain {{{name}}}, which is replaced by the {name}.")
