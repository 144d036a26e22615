"""Phase 1 within a run: the step reward model is trained once, on the run's problems, and then used."""

import json
from pathlib import Path

import pytest
from run_toys import rows, train

from agents.config.compose import compose_config
from agents.training import reward_model_phase as phase_one
from agents.training.build import load_run
from agents.training.reward_model_phase import reward_model_options
from agents.training.trainer import Trainer
from reason_envs.errors import ReasonEnvsError

TREE = ("env=reason_tree", "eval_every=0")
GENERATOR = {"name": "transformers", "model": "somewhere"}


@pytest.fixture
def trainings(monkeypatch):
    """What would have been trained."""
    seen = []

    def made(config):
        seen.append(config)
        Path(config.output_dir).mkdir(parents=True)
        (Path(config.output_dir) / "metrics.json").write_text("{}")
        return Path(config.output_dir)

    monkeypatch.setattr(phase_one, "train_reward_model", made)
    return seen


def resolve(folder, *overrides):
    return reward_model_options(compose_config([*TREE, *overrides]), GENERATOR, folder)


def test_the_embedded_model_is_used_by_default(trainings, tmp_path):
    found = resolve(tmp_path, "reward_model.max_batch_tokens=77")
    assert (found["model"], found["max_batch_tokens"], trainings) == ("embedded", 77, [])
    assert not {"path", "train", "training"} & found.keys()
    assert resolve(tmp_path, "reward_model=random") == {"seed": 0}


def test_a_saved_model_is_used_instead(trainings, tmp_path):
    assert resolve(tmp_path, "reward_model.path=saved")["model"] == "saved"
    assert resolve(tmp_path, "reward_model.path=saved", "reward_model.train=true")["model"] == "saved"
    assert trainings == []


def test_training_follows_the_run_and_happens_once(trainings, tmp_path):
    asked = (
        *("reward_model.train=true", "reward_model.training.epochs=2", "reward_model.device=cpu", "seed=5"),
        *(
            "env.separator=END",
            "env.max_depth=4",
            "env.fallbacks=[last_number]",
            "env.tasks={name: chain_sum, size: 9}",
        ),
        "eval_set={name: chain_sum, size: 3}",
    )
    assert resolve(tmp_path, *asked)["model"] == str(tmp_path / "reward_model")
    with pytest.raises(ReasonEnvsError, match=r"holds a model that no run began with.*reward_model\.path="):
        resolve(tmp_path, *asked)
    (tmp_path / "config.yaml").write_text("")
    assert resolve(tmp_path, *asked)["model"] == str(tmp_path / "reward_model")
    (config,) = trainings
    assert (config.epochs, config.device, config.seed, config.engine) == (2, "cpu", 5, GENERATOR)
    assert (config.separator, config.max_depth, config.fallbacks) == ("END", 4, ("last_number",))
    assert (config.tasks, config.eval_set) == ({"name": "chain_sum", "size": 9}, {"name": "chain_sum", "size": 3})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["reward_model.training.seed=3"], r"reward_model\.training\.seed follows the run: set seed instead"),
        (["reward_model.training.separator=END"], r"training\.separator follows the run: set env\.separator instead"),
        (["reward_model.model=x"], r"reward_model\.model='x' with .* give one of them"),
    ],
)
def test_what_contradicts_the_run_is_refused(overrides, message, trainings, tmp_path):
    with pytest.raises(ReasonEnvsError, match=message):
        resolve(tmp_path, "reward_model.train=true", *overrides)
    assert trainings == []


def test_both_phases_in_one_command_and_evaluation_afterwards(tiny_model, tmp_path):
    """A random generator gets some sums right where any last number counts, so both labels occur."""
    training = {
        **{"model": tiny_model, "problems": 12, "validation_problems": 6, "test_problems": 6, "solutions": 8},
        **{"labels": "solution", "epochs": 1, "batch_size": 16},
    }
    options = [
        *("env=reason_tree", "reward_model.train=true", f"engine.model={tiny_model}", "engine.device=cpu"),
        *(f"reward_model.training.{name}={value}" for name, value in training.items()),
        *("env.tasks={name: chain_sum, min_terms: 2, max_terms: 2, max_digits: 1, min_digits: 1}", "steps=1"),
        *("env.max_step_tokens=6", "env.max_depth=2", "env.fallbacks=[last_number]", "reward_model.device=cpu"),
        *("policy.channels=8", "algo.tasks_per_step=4", "eval_every=0", f"output_dir={tmp_path / 'run'}"),
    ]
    trainer = Trainer(compose_config(options))
    assert train(trainer) is None
    folder = tmp_path / "run" / "reward_model"
    assert {"config.json", "metrics.json", "README.md"} <= {path.name for path in folder.iterdir()}
    assert trainer.run.reward_model.calls > 0
    assert rows(tmp_path / "run")[0]["episode/reward_model_tokens"] > 0
    made = json.loads((folder / "metrics.json").read_text())
    again = load_run(str(tmp_path / "run"))
    assert json.loads((folder / "metrics.json").read_text()) == made
    assert again.reward_model.config.model == str(folder)
