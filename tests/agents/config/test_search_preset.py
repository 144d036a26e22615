"""The preset of policy-guided tree search matches the guide for two GPUs with 24 GB each."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from agents.config.compose import compose_config
from agents.training.resolve import resolve
from reason_envs.errors import ReasonEnvsError

GUIDE = yaml.safe_load((Path(__file__).resolve().parents[2] / "data" / "pgts_guide.yaml").read_text())
"""Hyper-parameters of the guide, unchanged."""


@pytest.fixture
def preset():
    return compose_config(["+experiment=pgts_2x24gb"])


def test_reward_model_training_matches_guide(preset):
    training, guide = preset.reward_model.training, GUIDE["reward_training"]
    assert preset.reward_model.train
    assert training.model == GUIDE["reward_model"]
    assert training.batch_size == guide["batch_size"]
    assert training.batch_size * training.accumulation == guide["effective_batch_size"]
    # The guide gives the rate of full fine-tuning; an adapter needs about ten times that.
    assert training.learning_rate == pytest.approx(10 * float(guide["learning_rate"]))
    assert (training.epochs, training.max_examples) == (guide["epochs"], guide["max_examples"])


def test_policy_training_matches_guide(preset):
    algo, guide = preset.algo, GUIDE["policy_training"]
    assert (preset.env.name, algo.name, preset.policy.name) == ("reason_tree", "ppo", "graph")
    assert algo.minibatch_size == guide["batch_size"]
    assert algo.optimizer.learning_rate == float(guide["learning_rate"])
    assert preset.steps == guide["num_iterations"]
    assert algo.tasks_per_step * algo.samples_per_task == guide["problems_per_iteration"]
    assert algo.epochs_per_batch == guide["ppo_epochs"]
    assert (algo.clip_low, algo.clip_high) == (guide["clip_epsilon"], guide["clip_epsilon"])
    assert preset.save_every == guide["checkpoint_every"]
    assert preset.keep_last * preset.save_every >= preset.steps, "every checkpoint of the guide is kept"


def test_search_matches_guide(preset):
    assert preset.engine.model == GUIDE["generator"]
    for name, value in GUIDE["search"].items():
        assert getattr(preset.env, name) == value


def test_placement_matches_guide(preset):
    for part, gpu in GUIDE["placement"].items():
        assert getattr(preset.placement, part) == f"cuda:{gpu}"
    placed = resolve(preset).config
    devices = (placed.engine.device, placed.reward_model.device, placed.policy.device)
    assert devices == ("cuda:0", "cuda:1", "cuda:1")


@pytest.mark.parametrize(
    "advice",
    [
        ["engine.load_in_8bit=true", "reward_model.load_in_8bit=true"],
        ["algo.minibatch_size=2", "algo.tasks_per_step=8"],
        ["env.max_depth=10", "env.max_nodes=50"],
        ["engine.model=Qwen/Qwen2.5-3B", "reward_model.training.model=Qwen/Qwen2.5-1.5B"],
        ["engine.model=Qwen/Qwen3-14B", "engine.load_in_8bit=true"],
        ["engine.attention=flash_attention_2"],
        ["steps=200", "env.final_reward_correct=2", "env.step_penalty=0.01"],
        ["reward_model.path=runs/earlier/reward_model", "output_dir=runs/resumed"],
    ],
    ids=" ".join,
)
def test_overrides_of_the_guide_compose(advice):
    config = compose_config(["+experiment=pgts_2x24gb", *advice])
    for override in advice:
        key, value = override.split("=")
        part = config
        for name in key.split("."):
            part = getattr(part, name)
        assert str(part).lower() == value.lower() or float(part) == float(value)


def test_placement_on_one_gpu_composes():
    same = [f"placement.{part}=cuda:0" for part in GUIDE["placement"]]
    config = compose_config(["+experiment=pgts_2x24gb", *same])
    assert {getattr(config.placement, part) for part in GUIDE["placement"]} == {"cuda:0"}


def test_contradicting_devices_are_an_error(preset):
    preset = replace(preset, engine=replace(preset.engine, device="cpu"))
    with pytest.raises(ReasonEnvsError, match=r"placement\.generator='cuda:0' contradicts engine\.device='cpu'"):
        resolve(preset)
