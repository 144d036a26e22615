"""Every algorithm on every environment: each cell of the matrix trains and is listed in the documentation."""

from __future__ import annotations

import importlib
import math
import re
import sys
from pathlib import Path

import pytest

from agents.config.compose import compose_config
from agents.train import train
from agents.training.build import build
from agents.training.resolve import resolve
from reason_envs import registration
from reason_envs.errors import ReasonEnvsError

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))
matrix = importlib.import_module("benchmarks.matrix")
CELLS = matrix.cells()


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.environment}-{cell.policy}-{cell.algorithm}")
def test_every_cell_trains_from_its_command_line(cell, tmp_path):
    smoke = matrix.run(cell, tmp_path / "run")
    assert smoke.steps == len(smoke.losses) == 2
    assert all(map(math.isfinite, smoke.losses))
    assert smoke.tokens > 0


def test_matrix_has_every_combination():
    """Every environment that the package registers, all learners, and each policy where it fits."""
    assert {cell.environment for cell in CELLS} == {*registration.ENVIRONMENTS.names()}
    rows = {(cell.environment, cell.policy) for cell in CELLS}
    assert rows == {
        *((name, "language") for name in registration.ENVIRONMENTS.names()),
        *((name, "graph") for name in matrix.TREES),
    }
    for row in rows:
        found = [cell.algorithm for cell in CELLS if (cell.environment, cell.policy) == row]
        assert found == ["ppo", "grpo", "at_grpo", *(["sb3_ppo", "sb3_maskable_ppo"] if row[1] == "graph" else [])]


def test_page_lists_every_cell():
    text = matrix.PAGE.read_text()
    table = text.split(matrix.BEGIN)[1].split(matrix.END)[0]
    header, _, *rows = table.strip().splitlines()
    names = re.findall(r"`(\w+)`", header)
    entries = {}
    for row in rows:
        environment, policy, *found = (part.strip().strip("`") for part in row.strip("|").split(" | "))
        entries |= {(environment, policy, name): entry for name, entry in zip(names, found, strict=True)}
    assert {(cell.environment, cell.policy, cell.algorithm) for cell in CELLS} <= entries.keys()
    for cell in CELLS:
        entry = entries[cell.environment, cell.policy, cell.algorithm]
        assert re.match(r"2 steps, [\d.]+ s, [\d,]+ tokens", entry), cell
        assert ("[curves]" in entry) == ((cell.environment, cell.policy, cell.algorithm) in matrix.CURVES)
    assert matrix.written(text, table.strip()) == text, "the command would write the same table"


@pytest.mark.parametrize("name", [name for name in matrix.ENVIRONMENTS if name not in matrix.TREES])
def test_graph_policy_without_a_tree_is_an_error(name, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ReasonEnvsError, match=r"environment with a tree observation.*use policy=language"):
        train(compose_config([f"env={name}", "algo=grpo", "policy=graph", f"output_dir={folder}"]))
    assert not folder.exists()


@pytest.mark.parametrize("name", matrix.ENVIRONMENTS)
def test_stable_baselines_with_a_language_policy_is_an_error(name, tmp_path):
    folder = tmp_path / "run"
    arguments = [f"env={name}", "algo=sb3_ppo", "policy=language", "env.tasks.size=8", f"output_dir={folder}"]
    rule = "cannot train LanguagePolicy: use policy=graph" if name in matrix.TREES else "fixed size.*use algo=ppo"
    with pytest.raises(ReasonEnvsError, match=rule):
        train(compose_config(arguments))
    assert not folder.exists()


def test_generator_of_a_tree_and_language_policy_are_two_models(tiny_model):
    own = [
        "env=reason_tree",
        "policy=language",
        f"policy.model={tiny_model}",
        "policy.device=cpu",
        "reward_model=random",
    ]
    run = build(resolve(compose_config([*own, "env.engine={name: transformers, model: embedded, device: cpu}"])))
    generator, sampler = run.environment.grower.engine, run.policy.engine
    assert (generator.config.model, sampler.config.model) == ("embedded", tiny_model)
    assert generator.model is not sampler.model is not run.policy.model
    before = {name: tensor.clone() for name, tensor in generator.model.state_dict().items()}
    sampler.load_weights({name: tensor + 1 for name, tensor in run.policy.export_weights().items()}, 1)
    assert all((tensor == before[name]).all() for name, tensor in generator.model.state_dict().items())
    run.close()


def test_untrainable_generator_is_not_the_engine_of_the_policy(tmp_path):
    arguments = ["env=reason_tree", "policy=language", "engine=openai", "engine.model=m", f"output_dir={tmp_path}"]
    with pytest.raises(ReasonEnvsError, match=r"engine=openai cannot take new weights.*env\.engine=\{name: openai"):
        build(resolve(compose_config(arguments)))
