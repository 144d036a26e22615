"""A separate package that adds a part of each kind: installed, used from the command line, and held to public names."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from language_toys import make_decision, make_policy, problems, single_turn
from value_toys import Signals

from agents.algorithms.optimizer import OptimizerConfig
from agents.algorithms.policy_loss import LossInputs
from agents.registry import ALGORITHMS, POLICIES
from agents.trajectory import Trajectory

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


def test_installed_parts_make_a_run_without_being_imported(run, tiny_model):
    done = run(
        "agents.train",
        *("env=their_parrot", "algo=their_rloo", "engine=their_engine", "env.tasks={name: their_words, count: 8}"),
        *(f"policy.model={tiny_model}", "policy.max_tokens=4", "policy.device=cpu", "steps=2", "eval_every=0"),
        *("algo.tasks_per_step=2", "algo.samples_per_task=2", "output_dir=run"),
    )
    assert done.returncode == 0, done.stderr
    assert "their_rloo trains 51,424 parameters" in done.stdout
    assert "on 8 problems of words" in done.stdout
    assert "their engine answered" in done.stdout
    rows = [json.loads(line) for line in (run.folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["their_streams"] for row in rows] == [4, 4]
    assert all(0 <= row["reward"] <= 1 for row in rows)
    card = (run.folder / "run" / "policy_final" / "README.md").read_text()
    assert "python -m agents.train env=their_parrot algo=their_rloo engine=their_engine" in card


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


# --- the examples as code

SOURCES = sorted((THEIRS / "src" / "their_parts").glob("*.py"))


@pytest.mark.parametrize(("name", "maximum"), [("rloo", 25), ("cispo", 20)])
def test_examples_are_short(name, maximum):
    (path,) = (path for path in SOURCES if path.stem == name)
    assert len(path.read_text().splitlines()) <= maximum


def names_used(path):
    """Every name that a file imports, defines, or reads from an object."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (part for alias in node.names for part in alias.name.split("."))
            yield from (getattr(node, "module", None) or "").split(".")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_examples_use_public_names_only(path):
    private = [name for name in names_used(path) if name.startswith("_") and not name.endswith("__")]
    assert private == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_examples_say_how_to_run_them(path):
    assert "python -m" in ast.get_docstring(ast.parse(path.read_text()))


# --- the examples at work


@pytest.fixture(scope="module")
def theirs():
    """Makes their package importable; what it registers is removed after the tests."""
    before = {registry: dict(registry.parts) for registry in (ALGORITHMS, POLICIES)}
    sys.path.insert(0, str(THEIRS / "src"))
    yield
    sys.path.remove(str(THEIRS / "src"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "their_parts"]:
        del sys.modules[name]
    for registry, parts in before.items():
        registry.parts.clear()
        registry.parts.update(parts)


def episode(reward, group):
    return Trajectory("t", "e", [make_decision(4, 3, reward=reward, group=group)], True, False)


def learner(name, policy, environment, tasks, **options):
    part = ALGORITHMS[f"their_parts.{name}:their_{name}"]
    config = part.config_class()(optimizer=OptimizerConfig(learning_rate=1e-2), **options)
    return part.load()(config, policy, environment, tasks, total_steps=20, seed=0)


async def unpaid(response, task):
    return 0.0


def text_learner(name, tiny_model, **options):
    tasks = problems(2)
    return learner(name, make_policy(tiny_model, max_tokens=5), single_turn(tasks, unpaid), tasks, **options)


def test_leave_one_out_compares_with_the_mean_of_the_others(theirs, tiny_model, monkeypatch):
    rloo = text_learner("rloo", tiny_model)
    seen = []
    monkeypatch.setattr(rloo.policy_update, "run", lambda samples, step: seen.extend(samples) or {})
    metrics = rloo.update([episode(r, "a") for r in (4.0, 0.0, 2.0)] + [episode(r, "b") for r in (1.0, 1.0)], step=0)
    assert [sample.advantage for sample in seen] == [3.0, -3.0, 0.0, 0.0, 0.0]
    assert metrics == {"their_streams": 5.0}


def test_cispo_keeps_the_gradient_of_every_token(theirs, tiny_model):
    """The gradient of each log-probability is its clipped ratio times its advantage, over the number of tokens."""
    cispo = text_learner("cispo", tiny_model, clip_low=0.5, clip_high=1.0)
    ratio = torch.tensor([[0.1, 1.5, 9.0], [1.0, 4.0, 1.0]])
    new = torch.full((2, 3), -1.0, requires_grad=True)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    inputs = LossInputs(
        log_probs=new,
        old_log_probs=new.detach() - ratio.log(),
        advantages=torch.tensor([[1.0, 1.0, 1.0], [-2.0, -2.0, 0.0]]),
        mask=mask,
        entropy=torch.zeros(2, 3),
        correction=torch.ones(2, 3),
        denominator=5.0,
        tokens=5.0,
    )
    loss, _ = cispo.loss(inputs, cispo.config)
    loss.backward()
    assert torch.allclose(new.grad * 5, torch.tensor([[-0.5, -1.5, -2.0], [2.0, 4.0, 0.0]]))


def test_cispo_trains(theirs, tiny_model):
    cispo = text_learner("cispo", tiny_model, minibatch_size=1, kl_coef=0.1)
    before = {name: tensor.clone() for name, tensor in cispo.policy.state_tensors().items()}
    for step in range(2):
        metrics = cispo.update([episode(1.0, "a"), episode(0.0, "a")], step)
    assert {"approx_kl", "kl", "frac_zero_std", "loss_tokens"} <= metrics.keys()
    assert any(not torch.equal(tensor, before[name]) for name, tensor in cispo.policy.state_tensors().items())


def test_their_policy_learns(theirs, tmp_path):
    environment = Signals()
    part = POLICIES["their_parts.policy:their_linear"]
    policy = part.load()(part.config_class()(scale=2.0), seed=0, environment=environment)
    options = {"tasks_per_step": 4, "samples_per_task": 8, "minibatch_size": 16, "epochs_per_batch": 2}
    rloo = learner("rloo", policy, environment, environment.tasks, **options)
    returns = []
    for step in range(20):
        trajectories = asyncio.run(rloo.collect(step))
        returns.append(np.mean([t.stream_return("watcher") for t in trajectories]))
        rloo.update(trajectories, step)
    assert returns[0] < 2.0
    assert np.mean(returns[-3:]) > 3.5
    policy.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").is_file()
