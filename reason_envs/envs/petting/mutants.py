"""Mutants of a right program: variants with one small change, which good tests detect."""

import ast
from collections.abc import Iterator
from typing import Any

_OPPOSITES = {ast.Add: ast.Sub, ast.Lt: ast.LtE, ast.Gt: ast.GtE, ast.Eq: ast.NotEq, ast.In: ast.NotIn, ast.And: ast.Or}
_OPERATORS: dict[Any, type] = {
    **_OPPOSITES,
    **{right: left for left, right in _OPPOSITES.items()},
    **{ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult},
}
_NAMES = {"max": "min", "min": "max", "any": "all", "all": "any"}


def mutants(source: str) -> Iterator[str]:
    """Yield variants of a program. Each differs in one operator, number, truth value or name of a builtin."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for field, value in _changes(node):
            before = getattr(node, field)
            setattr(node, field, value)
            yield ast.unparse(tree)
            setattr(node, field, before)


def _changes(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Yield a field to change and its value: another operator or builtin, a number plus 1, or the other truth value."""
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in _OPERATORS:
        yield "op", _OPERATORS[type(node.op)]()
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in _OPERATORS:
        yield "ops", [_OPERATORS[type(node.ops[0])](), *node.ops[1:]]
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield "value", not node.value if isinstance(node.value, bool) else node.value + 1
    elif isinstance(node, ast.Name) and node.id in _NAMES:
        yield "id", _NAMES[node.id]
