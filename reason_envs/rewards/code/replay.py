"""Runs unit tests on the recorded answers of a program, so that tests and program never share a process.

The text of this file runs in a sandbox together with the tests and the reference solution, which are trusted, but
without the program that is graded. First the tests run on the reference solution, and every call is recorded. Then the
program answers these calls in another sandbox. Finally the tests run again, and each call returns the recorded answer.
Answers are plain data, so they cannot influence the comparison.
"""

import ast
import builtins
import copy
from collections.abc import Callable
from typing import Any


class CountAsserts(ast.NodeTransformer):
    """Turns ``assert x`` into ``_check(lambda: x)``, so that every assertion is counted and none ends the tests."""

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        """Replace one assertion."""
        nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        call = ast.Call(ast.Name("_check", ast.Load()), [ast.Lambda(nothing, node.test)], [])
        return ast.copy_location(ast.Expr(call), node)


def run_tests(
    reference: str, tests: str, called: str, entry_point: str, answers: dict[str, tuple[str, Any]] | None
) -> tuple[list[Any], list[bool], str]:
    """Run tests on the reference (``answers=None``) or on recorded answers.

    Args:
        reference: code of the reference solution, or the start of every solution. The tests can use its names.
        tests: code of the tests.
        called: name of the function under test in the tests.
        entry_point: name of the function in the reference solution.
        answers: answer to each call, ``("value", value)`` or ``("raised", name of the exception)``.

    Returns:
        The calls as (key, args, kwargs), whether each assertion held, and the exception that ended the tests or "".
    """
    space: dict[str, Any] = {"__name__": "reference"}
    exec(compile(reference, "<reference>", "exec"), space)
    calls: dict[str, Any] = {}
    held: list[bool] = []

    def ask(*args: Any, **kwargs: Any) -> Any:
        key = repr((args, kwargs))
        if answers is None:
            calls.setdefault(key, (key, copy.deepcopy(args), copy.deepcopy(kwargs)))
            return space[entry_point](*args, **kwargs)
        kind, value = answers[key]
        if kind == "raised":
            raise getattr(builtins, value, Exception)
        return copy.deepcopy(value)

    def check(holds: Callable[[], Any]) -> None:
        try:
            held.append(bool(holds()))
        except Exception:  # noqa: BLE001  (an assertion whose call raised does not hold)
            held.append(False)

    tree = ast.fix_missing_locations(CountAsserts().visit(ast.parse(tests)))
    ended = ""
    try:
        exec(compile(tree, "<tests>", "exec"), {**space, called: ask, "_check": check})
    except Exception as error:  # noqa: BLE001
        ended = f"{type(error).__name__}: {error}"
    return list(calls.values()), held, ended
