"""One-line functions, described in words and tested: programs that a tiny model can write."""

from collections.abc import Callable
from random import Random
from typing import Any

from reason_envs.resources import read_table
from reason_envs.tasks.generated.base import Draw, Problem, generated

NAMES = ("f", "g", "h")
TESTS = 5
"""Number of assertions per task; the first one is public."""
KINDS: list[list[str]] = read_table(__file__, "one_line_code.yaml")
"""Words, Python expression and parameters of the first part of a function, before it multiplies and adds."""
ARGUMENTS: dict[str, Callable[[Random], tuple[Any, ...]]] = {
    "a, b": lambda rng: (rng.randint(-20, 20), rng.randint(-20, 20)),
    "xs": lambda rng: ([rng.randint(-9, 20) for _ in range(rng.randint(1, 5))],),
    "s": lambda rng: ("".join(rng.choice("abcdxyz") for _ in range(rng.randint(1, 8))),),
}
"""Function that draws arguments for parameters."""


@generated
def one_line_code() -> Draw:
    """One-line functions, such as "the larger of a and b, times 4, plus 7", with tests."""
    return draw


def draw(rng: Random) -> Problem:
    """Draw a problem. The answer is a reference solution, and the metadata has the tests."""
    (words, start, parameters), name = rng.choice(KINDS), rng.choice(NAMES)
    factor, term, sign = rng.randint(2, 99), rng.randint(1, 99), rng.choice(("plus", "minus"))
    question = f"Write a function {name}({parameters}) that returns {words}, times {factor}, {sign} {term}."
    operator = "+" if sign == "plus" else "-"
    code = f"def {name}({parameters}):\n    return {start} * {factor} {operator} {term}"
    tests = []
    for _ in range(TESTS):
        arguments = ARGUMENTS[parameters](rng)
        named = dict(zip(parameters.split(", "), arguments, strict=True))
        value = eval(start, named) * factor + (term if sign == "plus" else -term)
        tests.append(f"assert {name}({', '.join(map(repr, arguments))}) == {value}")
    metadata = {
        "domain": "code",
        "entry_point": name,
        "tests": {"code": code, "test_list": tests},
        "public_tests": tests[:1],
    }
    return question, code, metadata
