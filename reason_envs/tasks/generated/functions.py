"""Small functions to write, each with unit tests and a reference solution."""

from random import Random

from reason_envs.tasks.base import Split
from reason_envs.tasks.generated.base import GeneratedTaskSet, Problem, check_range, checked_size

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


def functions(
    split: Split,
    *,
    min_steps: int = 1,
    max_steps: int = 3,
    size: int | None = None,
    seed: int = 0,
    max_samples: int | None = None,
) -> GeneratedTaskSet:
    """Small Python functions to write, such as ``f(x): x, times 3, at most 9``.

    The answer is a reference solution. The metadata has it as ``code`` and six assertions as ``test_list``, as in MBPP.

    Args:
        split: ``"train"`` or ``"test"``.
        min_steps: minimum number of steps of a function.
        max_steps: maximum number of steps of a function.
        size: number of tasks. ``None``: 10,000 for train and 2,048 for test.
        seed: seed of the tasks.
        max_samples: maximum number of tasks; the first ones are kept. ``None``: all.
    """
    check_range(1, None, min_steps=min_steps, max_steps=max_steps)

    def draw(address: int) -> Problem:
        rng = Random(address)
        steps = [(rng.choice(list(_STEPS)), rng.randint(2, 9)) for _ in range(rng.randint(min_steps, max_steps))]
        question = "f(x): x, " + ", ".join(words.format(n=n) for words, n in steps)
        body = _code(steps)
        code = f"def f(x):\n    return {body}\n"
        tests = [f"assert f({value}) == {eval(body, {'x': value})}" for value in INPUTS]
        return question, code, {"code": code, "test_list": tests}

    return GeneratedTaskSet("functions", split, draw, checked_size(split, size, seed, max_samples), seed)


def _code(steps: list[tuple[str, int]]) -> str:
    code = "x"
    for words, n in steps:
        code = _STEPS[words].format(x=code, n=n)
    return code
