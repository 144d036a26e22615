"""Importing the library loads no heavy package; these are imported where they are used."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reason_envs.validation import EXTRAS

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
    "agents.plan",
    "agents.report",
    "agents.reward_model",
    "reason_envs.command.new",
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


PACKAGES = {module for packages in EXTRAS.values() for module in packages} - {"tqdm"}  # transformers needs tqdm
BARE = f"""
import sys
from importlib.machinery import PathFinder


class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in {PACKAGES} else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
"""
"""Startup of an interpreter in which the packages of all extras are missing."""
EPISODES = """
import gymnasium, reason_envs
from reason_envs import registration
for name in registration.ids():
    env = gymnasium.make(name)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    print(name)
"""


@pytest.fixture
def bare(tmp_path):
    """Run Python without the packages of the extras."""
    (tmp_path / "sitecustomize.py").write_text(BARE)
    path = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}

    def run(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **path})

    return run


def test_environments_need_no_extra(bare):
    done = bare("-c", EPISODES)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) >= 10


NEEDED = (
    "agents needs hydra-core, which is not installed: pip install 'reason-envs[train]' "
    "(in a checkout: pip install -c constraints.txt -e '.[train]').\n"
)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("agents.")])
def test_commands_of_agents_name_their_extra(bare, command):
    done = bare("-m", command, "--help")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {NEEDED}")


def test_agents_name_their_extra(bare):
    done = bare("-c", "from agents import fit")
    assert done.stderr.endswith(f"\nImportError: {NEEDED}")
    script = "from reason_envs.command import main; main()"
    assert bare("-c", script, "train").stderr == f"error: {NEEDED}"
    assert bare("-c", script, "new", "my_env").returncode == 0


def test_tables_name_their_extra(bare, tmp_path):
    (tmp_path / "x.csv").write_text("question,answer\n1 + 1,2\n")
    done = bare("-m", "reason_envs.tasks", "show", "json", "path=x.csv")
    assert done.returncode == 2
    assert "error: Reading x.csv needs datasets, which is not installed: pip install 'reason-envs[data]'" in done.stderr


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
