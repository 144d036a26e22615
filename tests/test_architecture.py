"""Imports point one way: towards the contracts, and never from the environments to the learners."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Later layers may import earlier ones. Modules of one layer do not import each other.
ORDER = {
    "reason_envs": (
        "errors",
        "plugins",
        "spaces batching views",
        "core",
        "tasks",
        "llm",
        "sandbox",
        "rewards",
        "envs",
        "registration vector",
        "adapters",
        "serve",
        "checker",
        "check",
        "__init__",
    ),
    "agents": (
        "__init__ trajectory masking state_tree metrics_file console registry distributed validation held_out "
        "step_metrics step_labels hub dashboards",
        "model_card batch checkpoint command figures curves episodes transcript optimizer config sb3_config",
        "policies tracking interrupts step_training samplers run_folder",
        "defaults",
        "compose",
        "rollout reward_model_card prompt_limits",
        "turn_tree advantages losses reward_model",
        "update phase_one",
        "role_update sync environment_models",
        "learner",
        "grpo ppo sb3 runs",
        "at_grpo search",
        "evaluate saving report",
        "trainer",
        "train",
    ),
}
LAYERS = {
    package: {module: number for number, modules in enumerate(order) for module in modules.split()}
    for package, order in ORDER.items()
}
FILES = sorted(path for package in ORDER for path in (ROOT / package).rglob("*.py"))


def layer(dotted):
    """The package of ``agents.x.y`` and the name of its layer; ``None`` outside of ours."""
    package, *parts = dotted.split(".")
    return (package, parts[0] if parts else "__init__") if package in LAYERS else None


def imported(path):
    """Every module a file imports, inside functions too, with ``from package import module`` spelled out.

    What only a type checker reads is left out: it imports nothing.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unread = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in unread:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module in LAYERS:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            yield node.module


def violations(path, modules):
    package, mine = layer(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module in modules:
        found = layer(module)
        if found is None:
            continue
        if found[0] == "agents" != package:
            yield f"{path.name} imports {module}: environments know no learners"
        elif found[0] == package and found[1] != mine and LAYERS[package][found[1]] >= LAYERS[package][mine]:
            yield f"{path.name} ({mine}) imports {module}: imports point to earlier layers"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_to_earlier_layers(path):
    assert list(violations(path, imported(path))) == []


@pytest.mark.parametrize(
    ("file", "wrong"),
    [
        ("reason_envs/tasks/x.py", ["agents.grpo", "reason_envs.envs.y", "reason_envs", "reason_envs.llm"]),
        ("agents/policies/x.py", ["agents.grpo", "agents.rollout", "agents.train", "agents.losses"]),
        ("agents/advantages.py", ["agents.losses", "agents.learner"]),
    ],
)
def test_a_wrong_import_would_be_seen(file, wrong):
    assert len(list(violations(ROOT / file, wrong))) == len(wrong)


def test_right_imports_pass():
    assert list(violations(ROOT / "reason_envs/tasks/x.py", ["reason_envs.core", "reason_envs.tasks.y", "numpy"])) == []
    assert list(violations(ROOT / "agents/rollout.py", ["agents.policies.base", "reason_envs.checker"])) == []


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").rglob("*.py")), ids=lambda p: p.name)
def test_what_benchmarks_import_is_there(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in LAYERS:
            module = importlib.import_module(node.module)
            missing = [name.name for name in node.names if not hasattr(module, name.name)]
            assert missing == [], f"{path.name}, line {node.lineno}: {node.module} has no such names"
