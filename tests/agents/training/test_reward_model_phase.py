"""Phase 1 of a run: the step reward model is trained once, on the run's problems, and then used."""

import json
from pathlib import Path

import pytest
from run_toys import rows

from agents.config.compose import compose_config
from agents.config.schema import options
from agents.train import train
from agents.training import reward_model_phase as phase_one
from agents.training.build import build, load_run
from agents.training.resolve import resolve
from reason_envs.errors import ReasonEnvsError, RunError

TREE = ("env=reason_tree", "eval_every=0")
METRICS = {
    "labels": {"right_share": 0.25},
    "test": {"solutions": 30, "auc": 0.9, "auc_last": 0.95, "auc_inner": 0.85, "f1": 0.7},
}


@pytest.fixture
def trainings(monkeypatch):
    """Collect the configurations of trainings instead of training."""
    seen = []

    def made(config):
        seen.append(config)
        Path(config.output_dir).mkdir(parents=True)
        (Path(config.output_dir) / "metrics.json").write_text(json.dumps(METRICS))
        return Path(config.output_dir)

    monkeypatch.setattr(phase_one, "train_reward_model", made)
    return seen


def planned(folder, *overrides):
    return resolve(compose_config([*TREE, f"output_dir={folder}", *overrides]))


def test_plan_uses_the_embedded_model_by_default(trainings, tmp_path):
    plan = planned(tmp_path, "reward_model.max_batch_tokens=77")
    found = plan.reward_model
    assert (found["model"], found["max_batch_tokens"], plan.reward_model_training) == ("embedded", 77, None)
    assert not {"path", "train", "training"} & found.keys()
    assert planned(tmp_path, "reward_model=random").reward_model == {"name": "random", "seed": 0}
    assert trainings == []


def test_plan_uses_a_saved_model(trainings, tmp_path):
    for more in ([], ["reward_model.train=true"]):
        plan = planned(tmp_path, "reward_model.path=saved", *more)
        assert (plan.reward_model["model"], plan.reward_model_training) == ("saved", None)
    assert trainings == []


def test_training_follows_the_run_and_is_an_explicit_phase(trainings, tmp_path, capsys):
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
    plan = planned(tmp_path, *asked)
    assert plan.reward_model["model"] == str(tmp_path / "reward_model")
    assert trainings == [], "a plan trains nothing"
    with pytest.raises(RunError, match=r"does not exist: python -m agents\.train trains the model first"):
        build(plan)
    phase_one.train_first(plan.reward_model_training)
    shown = capsys.readouterr().out
    assert "25% of the steps to learn from are right; on 30 held-out solutions AUC 0.900" in shown
    assert "F1 of the first wrong step 0.700" in shown
    with pytest.raises(RunError, match=r"exists, but its run never started.*reward_model\.path="):
        phase_one.train_first(plan.reward_model_training)
    (config,) = trainings
    assert (config.epochs, config.device, config.seed) == (2, "cpu", 5)
    assert config.engine == {"name": "transformers", **options(plan.config.engine)}
    assert (config.separator, config.max_depth, config.fallbacks) == ("END", 4, ("last_number",))
    assert (config.tasks, config.eval_set) == ({"name": "chain_sum", "size": 9}, {"name": "chain_sum", "size": 3})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["reward_model.training.seed=3"], r"reward_model\.training\.seed=3 follows the run: set seed instead"),
        (
            ["reward_model.training.separator=END"],
            r"training\.separator='END' follows the run: set env\.separator instead",
        ),
        (["reward_model.model=x"], r"reward_model\.model='x' contradicts .* give one of them"),
    ],
)
def test_plan_refuses_options_that_contradict_the_run(overrides, message, trainings, tmp_path):
    with pytest.raises(ReasonEnvsError, match=message):
        planned(tmp_path, "reward_model.train=true", *overrides)
    assert trainings == []


def test_train_runs_both_phases_and_load_run_trains_nothing(tiny_model, tmp_path):
    """The embedded generator gets some sums right, so both labels occur."""
    training = {
        **{"model": tiny_model, "problems": 12, "validation_problems": 6, "test_problems": 6, "solutions": 8},
        **{"labels": "solution", "epochs": 1, "batch_size": 16},
    }
    options = [
        *("env=reason_tree", "reward_model.train=true", "engine.device=cpu"),
        *(f"reward_model.training.{name}={value}" for name, value in training.items()),
        *("env.tasks={name: chain_sum, min_terms: 3, max_terms: 3}", "steps=1"),
        *("env.max_step_tokens=24", "env.max_depth=3", "reward_model.device=cpu"),
        *("policy.channels=8", "algo.tasks_per_step=4", "eval_every=0", f"output_dir={tmp_path / 'run'}"),
    ]
    train(compose_config(options))
    folder = tmp_path / "run" / "reward_model"
    assert {"config.json", "metrics.json", "README.md"} <= {path.name for path in folder.iterdir()}
    assert rows(tmp_path / "run")[0]["episode/reward_model_tokens"] > 0
    made = json.loads((folder / "metrics.json").read_text())
    again = load_run(str(tmp_path / "run"))
    assert json.loads((folder / "metrics.json").read_text()) == made
    assert again.reward_model.config.model == str(folder)
