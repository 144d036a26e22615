"""Importing the library loads no heavy package; these are imported where they are used."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = [
    "torch",
    "transformers",
    "vllm",
    "ray",
    "openai",
    "pettingzoo",
    "datasets",
    "reasoning_gym",
    "math_verify",
    "sympy",
    "agents",
    "openenv",
    "trl",
]


@pytest.mark.parametrize(
    "module",
    [
        "reason_envs",
        "reason_envs.adapters.gymnasium",
        "reason_envs.llm",
        "reason_envs.reward_models",
        "reason_envs.rewards",
        "reason_envs.sandbox",
        "reason_envs.tasks",
    ],
)
def test_import_loads_no_heavy_package(module):
    code = f"import sys, {module}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


COMMANDS = [
    "agents.train",
    "agents.evaluate",
    "agents.frontier",
    "agents.report",
    "agents.reward_model",
    "agents.command.new",
    "reason_envs.tasks",
    "reason_envs.check",
    "reason_envs.serve",
    "reason_envs.rewards",
]
SLOW = [name for name in HEAVY if name != "agents"] + ["matplotlib", "pandas", "scipy", "stable_baselines3"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_no_heavy_package(command):
    """Options of every part are listed without importing what the parts need."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", command, "--help"], capture_output=True, text=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert done.returncode == 0
    assert len(done.stdout) > 70
    assert len(loaded) > 50
    assert loaded.isdisjoint(SLOW)


UNIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "uvloop"}


@pytest.mark.parametrize("package", ["reason_envs", "agents"])
def test_no_module_needs_unix_when_it_is_imported(package):
    """The program of the sandbox server runs on Linux only, as a text."""
    found = {
        (path.name, alias.name)
        for path in (ROOT / package).rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom) and path.name != "server.py"
        for alias in node.names
        if {alias.name, getattr(node, "module", None)} & UNIX
    }
    assert found == set()


def test_version_is_that_of_the_metadata():
    import reason_envs

    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {reason_envs.__version__}\n" in citation


@pytest.mark.parametrize("package", ["reason_envs", "agents"])
def test_packages_are_typed(package):
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize("package", ["vllm", "ray", "wandb", "openenv"])
def test_folders_of_tests_do_not_pose_as_optional_packages(package):
    """Pytest puts the folders of test modules on the path; a subfolder named like a package would be found there."""
    spec = importlib.util.find_spec(package)
    assert spec is None or spec.origin is not None
