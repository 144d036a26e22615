"""Importing a module by an old name raises an error that gives the new name."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys

import pytest

from reason_envs.moved import MovedModules, new_names


@pytest.mark.parametrize("new", sorted(set(new_names().values())))
def test_new_names_exist(new):
    assert importlib.util.find_spec(new) is not None


@pytest.mark.parametrize(("old", "new"), new_names().items())
def test_old_names_are_free_or_packages(old, new):
    """No module may have an old name, except the package that the module became."""
    if new.startswith(f"{old}."):
        assert importlib.util.find_spec(old).submodule_search_locations
        return
    with pytest.raises(ImportError, match=f"is now '{new}'"):
        importlib.util.find_spec(old)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("import agents.learner", "'agents.learner' is now 'agents.algorithms.learner'"),
        ("from agents.learner import Learner", "is now 'agents.algorithms.learner'"),
        ("from agents import grpo", "is now 'agents.algorithms.grpo'"),
        ("import agents.trainer", "is now 'agents.training.trainer'"),
        ("from agents.runs import build", "is now 'agents.training.build'"),
        ("from agents.rollout import grouped", "'grouped' of the module 'agents.rollout' is now in 'agents.rollout.ep"),
        ("from agents.config import TrainConfig", "is now in 'agents.config.schema'"),
        ("from reason_envs.plugins import Registry", "is now 'reason_envs.registry'"),
        ("from reason_envs.checker import check_environment", "is now 'reason_envs.check'"),
        ("import reason_envs.checker.episodes", "is now 'reason_envs.check'"),
        ("from reason_envs.llm.scripted import ScriptedEngine", "is now 'reason_envs.llm.engines.scripted'"),
        ("import reason_envs.rewards.steps", "is now 'reason_envs.reward_models.base'"),
        ("from reason_envs.rewards.code import CodeReward", "is now in 'reason_envs.rewards.code.grade'"),
    ],
)
def test_old_imports_name_the_new_module(statement, message):
    with pytest.raises(ImportError, match=message):
        exec(statement, {})


@pytest.mark.parametrize("module", ["agents.no_such_module", "agents.rollout.no_such_name", "reason_envs.nothing"])
def test_other_missing_modules_raise_the_usual_error(module):
    with pytest.raises(ModuleNotFoundError, match=f"No module named '{module}'"):
        importlib.import_module(module)


def test_the_finder_is_installed_once_and_asked_last():
    assert sys.meta_path.count(MovedModules) == 1
    code = "import sys, reason_envs; print(type(sys.meta_path[-1]).__name__, 'reason_envs.moved' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ABCMeta", "True"]
    old = subprocess.run([sys.executable, "-c", "import agents.learner"], capture_output=True, text=True, check=False)
    assert "is now 'agents.algorithms.learner'" in old.stderr
