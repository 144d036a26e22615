"""Signatures of the operators of AFlow (arXiv 2410.10762), with the stubs and the prelude of programs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from reason_envs.resources import read_table
from reason_envs.sandbox.monty import GUARD, guard

CALL = "_operator"
"""Host function that every operator calls."""
COST = "_cost"
"""Host function that returns the cost so far."""
MAX_FIELD_CHARS = 100_000
"""Maximum number of characters of a field."""
MAX_VALUE_BYTES = 2**20
"""Maximum size of the fields of a call, and of the result of a workflow."""
MAX_SOLUTIONS = 26
"""Maximum number of solutions of an ensemble: each has a letter."""
_TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True, keep_trailing_newline=True)


@dataclass(frozen=True)
class Operator:
    """Inputs and outputs of an operator, by name and Python type."""

    takes: Mapping[str, str]
    """Type of each field; ``= default`` after the type makes the field optional."""
    returns: Mapping[str, str]
    """Type of each output."""
    domains: Sequence[str]
    """Domains that the operator fits."""

    def arguments(self, *, typed: bool) -> str:
        """Return the parameter list after ``self``."""
        parts = []
        for name, kind in self.takes.items():
            _, equals, default = kind.partition(" = ")
            parts.append(f"{name}: {kind}" if typed else f"{name}={default}" if equals else name)
        return ", ".join(parts)

    def problem_with(self, fields: Any) -> str | None:
        """Return what is wrong with the fields of a call at run time; ``None`` if they are valid."""
        if not isinstance(fields, dict) or set(fields) != set(self.takes):
            return f"it takes {', '.join(self.takes)}"
        for name, kind in self.takes.items():
            value, wanted = fields[name], kind.partition(" = ")[0]
            if not isinstance(value, {"str": str, "int": int, "list[str]": list}[wanted]):
                return f"{name} must be {wanted}, not {type(value).__name__}"
            if isinstance(value, int) and abs(value) > MAX_FIELD_CHARS:
                return f"{name} must be at most {MAX_FIELD_CHARS}"
            texts = value if isinstance(value, list) else [value] if isinstance(value, str) else []
            if not all(isinstance(text, str) for text in texts):
                return f"{name} must be {wanted}"
            if isinstance(value, list) and not 1 <= len(value) <= MAX_SOLUTIONS:
                return f"{name} must have 1 to {MAX_SOLUTIONS} items, not {len(value)}"
            if sum(map(len, texts)) > MAX_FIELD_CHARS:
                return f"{name} has more than {MAX_FIELD_CHARS} characters"
        return None


OPERATORS: Mapping[str, Operator] = {n: Operator(**row) for n, row in read_table(__file__, "operators.yaml").items()}
"""Signature of each operator by class name."""


ATTRIBUTES = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(): name for name in OPERATORS}
"""Class name of each operator by its usual attribute name: ``ScEnsemble`` by ``sc_ensemble``."""


@cache
def stubs() -> str:
    """Return the type stubs for the type checker."""
    return _TEMPLATES.get_template("stubs.py.jinja").render(operators=OPERATORS)


@cache
def prelude() -> str:
    """Return the code that runs before the program: the names of the stubs, whose calls reach the host."""
    names = {"cost": COST, "call": CALL, "guard": guard(MAX_VALUE_BYTES), "guard_name": GUARD}
    return _TEMPLATES.get_template("prelude.py.jinja").render(operators=OPERATORS, **names)
