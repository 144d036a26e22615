"""Signatures of the operators of AFlow (arXiv 2410.10762), with the stubs and the prelude of programs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

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
LEVELS = ("debug", "info", "warning", "error")
"""Methods of ``logger``, whose messages are dropped."""


@dataclass(frozen=True)
class Operator:
    """Inputs and outputs of an operator, by name and Python type."""

    takes: Mapping[str, str]
    """Type of each field; ``= default`` after the type makes the field optional."""
    returns: Mapping[str, str]
    """Type of each output."""
    domains: frozenset[str]
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


_ALL = frozenset({"math", "qa", "code"})
OPERATORS: Mapping[str, Operator] = {
    "Custom": Operator({"input": "str", "instruction": "str"}, {"response": "str"}, _ALL),
    "AnswerGenerate": Operator({"input": "str"}, {"thought": "str", "answer": "str"}, frozenset({"qa"})),
    "Programmer": Operator(
        {"problem": "str", "analysis": 'str = "None"'}, {"code": "str", "output": "str"}, frozenset({"math"})
    ),
    "ScEnsemble": Operator({"solutions": "list[str]", "problem": "str"}, {"response": "str"}, _ALL),
    "CustomCodeGenerate": Operator(
        {"problem": "str", "entry_point": "str", "instruction": "str"}, {"response": "str"}, frozenset({"code"})
    ),
    "Test": Operator(
        {"problem": "str", "solution": "str", "entry_point": "str", "test_loop": "int = 3", "question_id": "str = ''"},
        {"result": "bool", "solution": "str"},
        frozenset({"code"}),
    ),
    "Review": Operator({"problem": "str", "solution": "str"}, {"review_result": "bool", "feedback": "str"}, _ALL),
    "Revise": Operator({"problem": "str", "solution": "str", "feedback": "str"}, {"solution": "str"}, _ALL),
}
"""Signature of each operator by class name."""


def attribute_name(operator: str) -> str:
    """Return the usual attribute name of an operator: ``sc_ensemble`` for ``ScEnsemble``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operator).lower()


ATTRIBUTES = {attribute_name(name): name for name in OPERATORS}
"""Class name of each operator by its usual attribute name."""


@cache
def stubs() -> str:
    """Return the type stubs for the type checker."""
    lines = ["from typing import Any, TypedDict"]
    for name, operator in OPERATORS.items():
        lines += [f"class {name}Result(TypedDict):", *(f"    {n}: {kind}" for n, kind in operator.returns.items())]
    lines += [
        "class LLM:",
        "    def get_usage_summary(self) -> dict[str, float]: ...",
        "def create_llm_instance(config: Any) -> LLM: ...",
        "DatasetType = str",
        "class logger:",
        *(f"    @staticmethod\n    def {level}(*values: Any) -> None: ..." for level in LEVELS),
    ]
    for name, operator in OPERATORS.items():
        lines += [
            f"class {name}:",
            "    def __init__(self, llm: Any, name: str = '') -> None: ...",
            f"    async def __call__(self, {operator.arguments(typed=True)}) -> {name}Result: ...",
        ]
    lines += ["class operator:", *(f"    {name} = {name}" for name in OPERATORS)]
    return "\n".join(lines) + "\n"


@cache
def prelude() -> str:
    """Return the code that runs before the program: the names of the stubs, whose calls reach the host."""
    lines = [
        guard(MAX_VALUE_BYTES),
        "class LLM:",
        "    def get_usage_summary(self):",
        f"        return {{'total_cost': {COST}()}}",
        "def create_llm_instance(config):",
        "    return LLM()",
        "DatasetType = str",
        "class Logger:",
        *(f"    def {level}(self, *values):\n        pass" for level in LEVELS),
        "logger = Logger()",
    ]
    for name, operator in OPERATORS.items():
        fields = ", ".join(f"{field!r}: {field}" for field in operator.takes)
        lines += [
            f"class {name}:",
            "    def __init__(self, llm, name=''):",
            "        pass",
            f"    async def __call__(self, {operator.arguments(typed=False)}):",
            f"        return await {CALL}({name!r}, {GUARD}({{{fields}}}))",
        ]
    lines += ["class operator:", *(f"    {name} = {name}" for name in OPERATORS)]
    return "\n".join(lines) + "\n"
