"""Learners that are sharded over two processes equal learners in one process."""

import json

import pytest
import torch
from language_toys import make_policy
from ranks import in_ranks
from safetensors.torch import load_file
from sharded_toys import CASES, STEPS, exported, learn, make_learner, saver

from agents.training import saving
from reason_envs.llm.loading import load_model


@pytest.fixture(autouse=True)
def _plain_configuration(monkeypatch):
    monkeypatch.setattr(saving, "plain_config", vars)


@pytest.fixture(scope="module")
def sharded(tiny_model, tmp_path_factory):
    """Folder with the results of two processes."""
    folder = tmp_path_factory.mktemp("sharded")
    code, output = in_ranks("learners", tiny_model, folder)
    assert code == 0, output
    return folder


@pytest.fixture(scope="module")
def alone(tiny_model):
    """Learners of one process, with the metrics of their steps."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    learners = {name: make_learner(tiny_model, name, alone=True) for name in CASES}
    yield {name: (learner, learn(learner, range(STEPS))) for name, learner in learners.items()}
    torch.set_num_threads(threads)


def assert_close(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.allclose(tensor, theirs[name], rtol=0, atol=1e-6), (name, (tensor - theirs[name]).abs().max())


@pytest.mark.parametrize("name", CASES)
def test_sharded_learner_equals_one_process(sharded, alone, name):
    learner, expected = alone[name]
    for ours, theirs in zip(json.loads((sharded / name / "metrics.json").read_text()), expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6, nan_ok=True)
    assert_close(load_file(sharded / name / "exported.safetensors"), exported(learner.policy))


@pytest.mark.parametrize("name", CASES)
def test_checkpoint_of_two_processes_continues_in_one(sharded, alone, tiny_model, name):
    learner = make_learner(tiny_model, name, alone=True)
    assert saver(sharded / name, learner).restore().step == STEPS - 1
    (metrics,) = learn(learner, [STEPS - 1])
    assert metrics == pytest.approx(alone[name][1][-1], rel=1e-4, abs=1e-6, nan_ok=True)
    assert_close(exported(learner.policy), exported(alone[name][0].policy))


def test_saved_model_of_two_processes_holds_the_exported_weights(sharded, tiny_model):
    model = load_model(str(sharded / "grpo" / "saved"), device=torch.device("cpu"), dtype=torch.float32)
    weights = load_file(sharded / "grpo" / "exported.safetensors")
    assert {f"/{name}" for name in model.state_dict()} == weights.keys()
    assert all(weights[f"/{name}"].equal(tensor) for name, tensor in model.state_dict().items())
    assert len(load_file(sharded / "grpo" / "saved" / "model.safetensors")) == len(weights) - 1, "the tied head is once"


def test_saved_adapter_of_two_processes_gives_the_exported_weights(sharded, tiny_model):
    policy = make_policy(tiny_model, adapter=str(sharded / "grpo_lora" / "saved"))
    weights = load_file(sharded / "grpo_lora" / "exported.safetensors")
    assert_close({f"/{name}": tensor for name, tensor in policy.export_weights().items()}, weights)
