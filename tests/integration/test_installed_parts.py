"""A distribution that adds a part of each kind, installed beside ours, and used from the command line alone."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
THEIRS = ROOT / "tests" / "data" / "their_parts"


def install(site):
    """Put the distribution where `pip install --target` would, without the network that its build backend needs."""
    project = tomllib.loads((THEIRS / "pyproject.toml").read_text())["project"]
    shutil.copytree(THEIRS / "src", site)
    information = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {address}" for name, address in points.items()))
    ]
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a module of ours in an empty folder, with theirs installed where Python looks."""
    folder = tmp_path_factory.mktemp("installed")
    install(folder / "site")
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder / 'site'}"}

    def command(module, *arguments):
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env={**os.environ, **paths},
            capture_output=True,
            text=True,
            check=False,
        )

    command.folder = folder
    return command


def test_five_installed_parts_make_a_run_without_being_imported(run, tiny_model):
    done = run(
        "agents.train",
        *("env=their_parrot", "algo=their_reinforce", "engine=their_engine", "algo.scale=2"),
        "env.tasks={name: their_words, count: 8}",
        *(f"policy.model={tiny_model}", "policy.max_tokens=4", "policy.device=cpu", "steps=1", "eval_every=0"),
        *("algo.tasks_per_step=2", "algo.samples_per_task=2", "output_dir=run"),
    )
    assert done.returncode == 0, done.stderr
    assert "their_reinforce trains 51,424 parameters" in done.stdout
    assert "on 8 problems of words" in done.stdout
    assert "their engine answered" in done.stdout
    (row,) = map(json.loads, (run.folder / "run" / "metrics.jsonl").read_text().splitlines())
    assert row["their_streams"] == 4
    assert 0 <= row["reward"] <= 1
    card = (run.folder / "run" / "policy_final" / "README.md").read_text()
    assert "python -m agents.train env=their_parrot algo=their_reinforce engine=their_engine" in card


@pytest.mark.parametrize("reward", ["their_contains", "their_parts.reward:contains"])
def test_installed_environments_and_rewards_pass_the_checker(run, reward):
    done = run("reason_envs.check", "TheirParrot-v0", f"reward={reward}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_reward_function_has_at_most_five_lines():
    tree = ast.parse((THEIRS / "src" / "their_parts" / "reward.py").read_text())
    assert sum(node.end_lineno - node.lineno + 1 for node in tree.body[1:]) <= 5


def test_installed_task_families_are_shown_by_the_command(run):
    done = run("reason_envs.tasks", "show", "their_words", "count=2")
    assert "Say 1." in done.stdout
