"""Importing the library loads no heavy package; these are imported where they are used."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("package", ["vllm", "ray", "wandb", "openenv"])
def test_folders_of_tests_do_not_pose_as_optional_packages(package):
    """Pytest puts the folders of test modules on the path; a subfolder named like a package would be found there."""
    spec = importlib.util.find_spec(package)
    assert spec is None or spec.origin is not None
