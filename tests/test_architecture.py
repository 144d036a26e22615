"""Imports point one way: towards the contracts, and never from the environments to the learners."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Later layers may import earlier ones. Modules that share a number do not import each other.
LAYERS = {
    "errors": 0,
    "plugins": 1,
    "spaces": 2,
    "batching": 2,
    "core": 3,
    "tasks": 4,
    "llm": 5,
    "sandbox": 6,
    "rewards": 7,
    "envs": 8,
    "registration": 9,
    "vector": 9,
    "adapters": 10,
    "checker": 11,
    "__init__": 12,
}
FILES = sorted((ROOT / "reason_envs").rglob("*.py"))


def layer(dotted):
    """Name of the layer of ``reason_envs.x.y``; ``None`` outside the package."""
    parts = dotted.split(".")
    if parts[0] != "reason_envs":
        return None
    return parts[1] if len(parts) > 1 else "__init__"


def imported(path):
    """Every module a file imports, inside functions too, with ``from package import module`` spelled out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "reason_envs":
            yield from (f"reason_envs.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            yield node.module


def violations(path, modules):
    mine = layer(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module in modules:
        theirs = layer(module)
        if module.split(".")[0] == "agents":
            yield f"{path.name} imports {module}: environments know no learners"
        elif theirs is not None and theirs != mine and LAYERS[theirs] >= LAYERS[mine]:
            yield f"{path.name} ({mine}) imports {module} ({theirs}): imports point to earlier layers"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_to_earlier_layers(path):
    assert list(violations(path, imported(path))) == []


def test_a_wrong_import_would_be_seen():
    path = ROOT / "reason_envs" / "tasks" / "example.py"
    wrong = ["agents.grpo", "reason_envs.envs.single_turn_math", "reason_envs", "reason_envs.llm"]
    assert len(list(violations(path, wrong))) == len(wrong)
    assert list(violations(path, ["reason_envs.core", "reason_envs.tasks.base", "numpy"])) == []
