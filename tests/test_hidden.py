"""Failed imports of this library's modules name the package that hides the module."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agents.config.command_line import warn_of_other_agents
from reason_envs.hidden import HiddenModules

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("module", ["agents.no_such_module", "agents.rollout.no_such_name", "reason_envs.nothing"])
def test_other_missing_modules_raise_the_usual_error(module):
    with pytest.raises(ModuleNotFoundError, match=f"No module named '{module}'"):
        importlib.import_module(module)


def test_the_finder_is_installed_once_and_asked_last():
    importlib.invalidate_caches()  # calls every finder
    assert [type(finder) for finder in sys.meta_path].count(HiddenModules) == 1
    code = "import sys, reason_envs; print(type(sys.meta_path[-1]).__name__, 'reason_envs.hidden' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["HiddenModules", "True"]


def test_a_package_that_hides_ours_is_named(tmp_path):
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").touch()
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import reason_envs, agents.algorithms.grpo"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "hides 'agents.algorithms'" in done.stderr
    assert str(tmp_path / "agents") in done.stderr
    assert "openai-agents" in done.stderr


@pytest.mark.parametrize("record", ["agents/__init__.py,sha256=x,1\n", "x.py,,\nagents/__init__.py,,\n"])
def test_commands_warn_of_another_distribution_that_provides_agents(tmp_path, record):
    information = tmp_path / "openai_agents-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: openai-agents\nVersion: 1.0\n")
    (information / "RECORD").write_text(record)
    code = "from agents.report.__main__ import main; main(['no_such_run'])"
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **paths}
    )
    warning, *_ = done.stderr.splitlines()
    assert warning.startswith("warning: openai-agents also provides a package named agents")
    assert "`pip uninstall openai-agents`" in warning
    assert done.stderr.count("warning:") == 1


def test_commands_do_not_warn_of_this_distribution(capsys):
    warn_of_other_agents.__wrapped__()
    assert capsys.readouterr().err == ""
