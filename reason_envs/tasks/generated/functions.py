"""Small functions to write, each with unit tests and a reference solution."""

from random import Random

from reason_envs.tasks.generated.base import Draw, Problem, check_range, generated

INPUTS = (-7, -3, 0, 2, 5, 9)
"""Arguments of the calls in the tests."""
_STEPS = {
    "plus {n}": "{x} + {n}",
    "minus {n}": "{x} - {n}",
    "times {n}": "({x}) * {n}",
    "at least {n}": "max({x}, {n})",
    "at most {n}": "min({x}, {n})",
    "remainder by {n}": "({x}) % {n}",
}
"""Code of each step, by its words."""


@generated
def functions(*, min_steps: int = 1, max_steps: int = 3) -> Draw:
    """Small Python functions to write, such as ``f(x): x, times 3, at most 9``.

    The answer is a reference solution. The metadata has it as ``code`` and six assertions as ``test_list``, as in MBPP.

    Args:
        min_steps: minimum number of steps of a function.
        max_steps: maximum number of steps of a function.
    """
    check_range(1, None, min_steps=min_steps, max_steps=max_steps)

    def draw(rng: Random) -> Problem:
        steps = [(rng.choice(list(_STEPS)), rng.randint(2, 9)) for _ in range(rng.randint(min_steps, max_steps))]
        question = "f(x): x, " + ", ".join(words.format(n=n) for words, n in steps)
        body = "x"
        for words, n in steps:
            body = _STEPS[words].format(x=body, n=n)
        code = f"def f(x):\n    return {body}\n"
        tests = [f"assert f({value}) == {eval(body, {'x': value})}" for value in INPUTS]
        return question, code, {"code": code, "test_list": tests}

    return draw
