"""Mutants of a right program: variants with one small change, which good tests detect."""

import ast
import copy
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
        for change in (_operator, _constant, _name):
            if (new := change(node)) is not None:
                before = dict(ast.iter_fields(node))
                vars(node).update(ast.iter_fields(new))
                yield ast.unparse(tree)
                vars(node).update(before)


def _operator(node: ast.AST) -> ast.AST | None:
    """Replace the operator of a binary, boolean or comparing expression."""
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in _OPERATORS:
        new = copy.copy(node)
        new.op = _OPERATORS[type(node.op)]()
        return new
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _OPERATORS:
        changed = copy.copy(node)
        changed.ops = [_OPERATORS[type(node.ops[0])](), *node.ops[1:]]
        return changed
    return None


def _constant(node: ast.AST) -> ast.AST | None:
    """Add 1 to a whole number, or negate a truth value."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, int):
        return None
    return ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)


def _name(node: ast.AST) -> ast.AST | None:
    """Replace a builtin by its opposite."""
    return ast.Name(_NAMES[node.id], node.ctx) if isinstance(node, ast.Name) and node.id in _NAMES else None
