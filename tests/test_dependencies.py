"""Every imported package is declared as a dependency under its distribution name."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from reason_envs.validation import EXTRAS

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"reason_envs", "agents"}
OPTIONAL = {module: package for packages in EXTRAS.values() for module, package in packages.items()}
"""Optional packages: module and distribution."""


def name_of(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def names(requirements):
    return {name_of(requirement) for requirement in requirements}


def modules():
    for package in OURS:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                found = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom):
                    found = [node.module]
                yield from (name.partition(".")[0] for name in found)


def test_every_import_is_declared():
    installed = packages_distributions()
    imported = set(modules()) - OURS - set(sys.stdlib_module_names)
    assert {"torch", "yaml", "omegaconf", "sympy"} <= imported - OPTIONAL.keys()
    for module in sorted(imported - OPTIONAL.keys()):
        found = {d.lower().replace("_", "-") for d in installed.get(module, [])}
        assert found & names(PROJECT["dependencies"]), f"{module}: declare one of {sorted(found)} in pyproject.toml"


@pytest.mark.parametrize("extra", EXTRAS)
def test_packages_of_an_extra_are_declared_in_it_alone(extra):
    packages = set(EXTRAS[extra].values())
    assert packages <= names(PROJECT["optional-dependencies"][extra])
    assert packages.isdisjoint(names(PROJECT["dependencies"]))


def test_training_includes_data_and_is_checked_whole():
    declared = PROJECT["optional-dependencies"]["train"]
    assert "reason-envs[data]" in declared
    assert names(declared) - {"reason-envs", "accelerate"} == set(EXTRAS["train"].values())
