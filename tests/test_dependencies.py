"""Every imported package is declared as a dependency under its distribution name."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"reason_envs", "agents"}
EXTRAS = {
    "vllm": "vllm",
    "wandb": "wandb",
    "ray": "ray",
    "bitsandbytes": "bitsandbytes",
    "openenv": "openenv",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "verifiers": "verifiers",
}
"""Optional packages: module and distribution."""


def name_of(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def modules():
    for package in OURS:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom):
                    names = [node.module]
                yield from (name.partition(".")[0] for name in names)


def test_every_import_is_declared():
    optional = {name_of(r) for extra in PROJECT["optional-dependencies"].values() for r in extra}
    declared = {name_of(requirement) for requirement in PROJECT["dependencies"]}
    installed = packages_distributions()
    imported = set(modules()) - OURS - set(sys.stdlib_module_names)
    assert {"torch", "yaml", "omegaconf", "sympy"} <= imported
    for module in sorted(imported):
        found = {d.lower().replace("_", "-") for d in installed.get(module, [])}
        if module in EXTRAS:
            assert EXTRAS[module] in optional, module
        else:
            assert found & declared, f"{module}: declare one of {sorted(found)} in pyproject.toml"
