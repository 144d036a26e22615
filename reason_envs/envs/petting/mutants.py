"""Mutants of a right program: variants with one small change, which good tests detect."""

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any

Change = Callable[[ast.AST], ast.AST | None]

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
    for place, node in enumerate(ast.walk(tree)):
        for change in (_operator, _constant, _name):
            if change(node) is not None:
                changed = copy.deepcopy(tree)
                target = next(other for i, other in enumerate(ast.walk(changed)) if i == place)
                _apply(change, target)
                yield ast.unparse(ast.fix_missing_locations(changed))


def _apply(change: Change, node: ast.AST) -> None:
    new = change(node)
    assert new is not None
    for name, value in ast.iter_fields(new):
        setattr(node, name, value)


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
