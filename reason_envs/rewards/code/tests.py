"""Tests of programs: assertions about a function, or expected outputs; and how assertions are split into cases."""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from reason_envs.errors import ReasonEnvsError, reading
from reason_envs.sandbox.values import Opaque, Raised


@dataclass(frozen=True)
class UnitTests:
    """Assertions about one function."""

    code: str
    """Python code whose assertions are the tests."""
    entry_point: str
    """Name of the function that a program must define."""
    called: str
    """Name of the function in the tests: the same name, or ``candidate``."""
    reference: str = ""
    """Code of the reference solution, which gives the time limit and the calls of tests that cannot be split. Empty:
    none."""
    preamble: str = ""
    """Start of every program, such as a prompt with imports and the signature. Empty: none."""

    def program(self, code: str) -> str:
        """Return code of a model, complete or the body of the preamble's function, as a program."""
        is_body = code[:1] in (" ", "\t")
        return self.preamble + code if is_body else f"{self.preamble}\n\n{code}" if self.preamble else code


@dataclass(frozen=True)
class StdioTests:
    """Expected standard output for standard inputs."""

    cases: tuple[tuple[str, str], ...]
    """Pairs of input and expected output. Spaces at line ends and empty lines at the end are ignored."""
    reference: str = ""
    """Code of the reference solution, which gives the time limit. Empty: none."""

    def program(self, code: str) -> str:
        """Return code of a model as a program."""
        return code


Tests = UnitTests | StdioTests


def read_tests(
    own: Mapping[str, Any], defaults: Mapping[str, Any] = MappingProxyType({}), owner: str = "The task"
) -> Tests:
    """Read tests in the format of HumanEval, of MBPP (sanitized), or with ``inputs`` and ``outputs``.

    ``defaults`` are the values of fields that the task does not have; ``owner`` names the task in errors.
    """
    record = {**defaults, **own}
    with reading(f"{owner}'s tests", "Fix them, or remove the task."):
        try:
            tests = _tests_of(record)
        except MemoryError:  # of Python's parser, which has no more room for its stack
            raise ValueError("the code is nested too deeply") from None
        if tests:
            cases = tests.cases if isinstance(tests, StdioTests) else ()
            texts = [*(text for case in cases for text in case), *(v for k, v in vars(tests).items() if k != "cases")]
            "".join(texts).encode()
            return tests
    has = f" among its other fields {sorted(own)}" if own else ", only a question and an answer"
    raise ReasonEnvsError(
        f"{owner} has no tests{has}. Add 'test' and 'entry_point' (HumanEval), 'test_list' (MBPP), or 'inputs' and "
        "'outputs'."
    )


def _tests_of(record: Mapping[str, Any]) -> Tests | None:
    if "entry_point" in record:
        prompt = record["prompt"]
        code = f"{record['test']}\ncheck(candidate)\n"
        ast.parse(code)
        reference = prompt + record["canonical_solution"] if record.get("canonical_solution") else ""
        return UnitTests(code, record["entry_point"], "candidate", reference, prompt)
    if "test_list" in record:
        code = "\n".join([*record.get("test_imports", ()), *record["test_list"]])
        name = _function_under_test(code, record.get("code", ""))
        return UnitTests(code, name, name, record.get("code", ""))
    if "inputs" in record and "outputs" in record:
        return StdioTests(tuple(zip(record["inputs"], record["outputs"], strict=True)), record.get("solution", ""))
    return None


def _function_under_test(tests: str, reference: str) -> str:
    defined = [node.name for node in ast.parse(reference).body if isinstance(node, ast.FunctionDef)]
    called = [
        node.func.id
        for node in ast.walk(ast.parse(tests))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    if found := [name for name in called if name in defined] or ([] if reference else called):
        return found[0]
    raise ReasonEnvsError(f"The tests call {sorted(set(called))}, but the reference solution defines only {defined}.")


@dataclass(frozen=True)
class Case:
    """One assertion, split into a call for the program and a check of its value."""

    expression: str
    """Call that the program evaluates."""
    accepts: Callable[[Any], bool]
    """Returns whether a value satisfies the assertion."""


def split(tests: UnitTests) -> list[Case] | None:
    """Split tests into calls and expected values, without assertions of a constant.

    This is possible if every statement is ``assert f(literals)``, also with ``not``, ``==`` or ``is``; otherwise the
    result is ``None``.
    """
    cases = []
    for statement in _statements(ast.parse(tests.code), tests.called):
        if isinstance(statement, ast.Assert) and isinstance(statement.test, ast.Constant):
            continue
        case = _case(statement.test, tests) if isinstance(statement, ast.Assert) else None
        if case is None:
            return None
        cases.append(case)
    return cases or None


def _statements(tree: ast.Module, called: str) -> list[ast.stmt]:
    """Return the statements that test: those of the function ``check`` if the last statement calls it."""
    body = tree.body
    if body and ast.unparse(body[-1]) == f"check({called})":
        checks = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == "check"]
        others = [node for node in body[:-1] if node not in checks and not isinstance(node, (ast.Assign, ast.Expr))]
        if len(checks) == 1 and not others:
            return checks[0].body
    return body


def _case(test: ast.expr, tests: UnitTests) -> Case | None:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return _with_call(test.operand, tests, lambda value: not value)
    if not isinstance(test, ast.Compare):
        return _with_call(test, tests, bool)
    if len(test.ops) != 1:
        return None
    try:
        expected = ast.literal_eval(test.comparators[0])
    except ValueError:
        return None
    if isinstance(test.ops[0], ast.Eq):
        return _with_call(test.left, tests, lambda value: value == expected)
    if isinstance(test.ops[0], ast.Is) and (expected is None or isinstance(expected, bool)):
        return _with_call(test.left, tests, lambda value: value is expected)
    return None


def _with_call(call: ast.expr, tests: UnitTests, accepts: Callable[[Any], bool]) -> Case | None:
    if not isinstance(call, ast.Call) or ast.unparse(call.func) != tests.called:
        return None
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    try:
        for argument in arguments:
            ast.literal_eval(argument)
    except ValueError:
        return None
    renamed = ast.Call(ast.Name(tests.entry_point, ast.Load()), call.args, call.keywords)
    return Case(ast.unparse(renamed), lambda value: not isinstance(value, (Opaque, Raised)) and accepts(value))
