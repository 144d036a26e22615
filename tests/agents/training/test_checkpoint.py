"""Checkpoints are complete or absent, and a resumed training equals the uninterrupted one."""

import errno
import json
import os

import pytest
import torch
from safetensors import SafetensorError

from agents.training import checkpoint
from agents.training.checkpoint import CheckpointError
from agents.training.state_tree import flatten, unflatten
from reason_envs.errors import RunError

TENSORS = {
    "policy": {"weight": torch.arange(6.0).reshape(2, 3).T, "half": torch.tensor([1.5], dtype=torch.bfloat16)},
    "optimizer": {"step": torch.tensor(3.0), "bytes": torch.arange(4, dtype=torch.uint8), "none": torch.empty(0)},
}
STATE = {"step": 3, "best": (0.5, 2), "schedule": {1: float("-inf")}, "name": "naïve"}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_load_returns_what_was_saved(tmp_path):
    path = checkpoint.save(tmp_path / "checkpoints", 3, TENSORS, STATE)
    tensors, state = checkpoint.load(path)
    assert state == STATE
    assert isinstance(state["best"], tuple)
    for group, expected in TENSORS.items():
        assert tensors[group].keys() == expected.keys()
        for name, tensor in expected.items():
            assert tensors[group][name].dtype == tensor.dtype
            assert torch.equal(tensors[group][name], tensor)
    assert names(path) == ["manifest.json", "optimizer.safetensors", "policy.safetensors", "state.json"]
    assert names(path.parent) == ["step_3"]


def test_save_writes_tied_weights_under_both_names(tmp_path):
    weight = torch.randn(3, 2)
    tensors, _ = checkpoint.load(
        checkpoint.save(tmp_path, 1, {"policy": {"in": weight, "out": weight, "t": weight.T}}, {})
    )
    assert torch.equal(tensors["policy"]["in"], weight)
    assert torch.equal(tensors["policy"]["out"], weight)
    assert torch.equal(tensors["policy"]["t"], weight.T)


def test_save_replaces_the_same_step_and_removes_leftovers(tmp_path):
    (tmp_path / ".tmp-step_1-abc").mkdir()
    (tmp_path / ".tmp-step_1-abc" / "half").write_text("x")
    checkpoint.save(tmp_path, 1, {}, {"take": 1})
    path = checkpoint.save(tmp_path, 1, {}, {"take": 2})
    assert checkpoint.load(path)[1] == {"take": 2}
    assert names(tmp_path) == ["step_1"]


def test_latest_compares_numbers_and_ignores_other_files(tmp_path):
    for step in (9, 10):
        checkpoint.save(tmp_path, step, {}, {})
    (tmp_path / ".tmp-step_11-x").mkdir()
    (tmp_path / "step_12").write_text("a file")
    assert checkpoint.latest(tmp_path).name == "step_10"
    for empty in (tmp_path / "absent", tmp_path / ".tmp-step_11-x"):
        with pytest.raises(CheckpointError, match="holds no checkpoint"):
            checkpoint.latest(empty)


def test_prune_keeps_the_latest_and_the_best(tmp_path):
    for step in (2, 4, 6, 8, 10):
        checkpoint.save(tmp_path, step, {}, {})
    assert checkpoint.prune(tmp_path, 2, {4, 99}) == [2, 6]
    assert names(tmp_path) == ["step_10", "step_4", "step_8"]
    with pytest.raises(CheckpointError, match="keep_last=0"):
        checkpoint.prune(tmp_path, 0, set())


@pytest.mark.parametrize("name", ["policy.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_load_names_a_missing_file(tmp_path, name):
    path = checkpoint.save(tmp_path, 1, TENSORS, STATE)
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        checkpoint.load(path)


def test_load_detects_damage(tmp_path):
    path = checkpoint.save(tmp_path, 1, TENSORS, STATE)
    content = bytearray((path / "policy.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "policy.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"policy.safetensors is damaged"):
        checkpoint.load(path)
    (path / "policy.safetensors").write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=r"policy.safetensors has \d+ bytes instead of"):
        checkpoint.load(path)
    (path / "manifest.json").write_text("{")
    with pytest.raises(RunError, match=r"manifest.json cannot be used .JSONDecodeError"):
        checkpoint.load(path)


def test_load_refuses_another_format(tmp_path):
    path = checkpoint.save(tmp_path, 1, {}, {})
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        checkpoint.load(path)


@pytest.mark.parametrize("failing", ["save_file", "fsync", "rename"])
def test_save_on_a_full_disk_keeps_and_names_the_last_checkpoint(tmp_path, monkeypatch, failing):
    checkpoint.save(tmp_path, 1, TENSORS, STATE)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(*_):
        raise SafetensorError(str(full)) if failing == "save_file" else full

    if failing == "save_file":
        monkeypatch.setattr(checkpoint, "save_file", fail)
    elif failing == "fsync":
        monkeypatch.setattr(checkpoint.os, "fsync", fail)
    else:
        monkeypatch.setattr(checkpoint.Path, "rename", fail)
    with pytest.raises(CheckpointError, match=r"No space left on device.* the last complete checkpoint is .*step_1\."):
        checkpoint.save(tmp_path, 2, TENSORS, STATE)
    monkeypatch.undo()
    assert names(tmp_path) == ["step_1"]
    assert checkpoint.load(tmp_path / "step_1")[1] == STATE


def test_save_keeps_the_old_checkpoint_if_the_replacement_fails(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, {}, {"take": 1})
    rename = checkpoint.Path.rename

    def fail_on_the_new_one(path, target):
        if target.name == "step_1" and "replaced" not in path.name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, target)

    monkeypatch.setattr(checkpoint.Path, "rename", fail_on_the_new_one)
    with pytest.raises(CheckpointError, match="Input/output error"):
        checkpoint.save(tmp_path, 1, {}, {"take": 2})
    assert checkpoint.load(tmp_path / "step_1")[1] == {"take": 1}


def test_latest_undoes_a_replacement_that_was_interrupted(tmp_path):
    path = checkpoint.save(tmp_path, 1, {}, {"take": 1})
    path.rename(tmp_path / ".tmp-step_1-replaced")
    assert checkpoint.load(checkpoint.latest(tmp_path))[1] == {"take": 1}


@pytest.mark.parametrize(
    ("tensors", "state", "message"),
    [({"../x": {}}, {}, "'../x' is not a valid file name"), ({}, {"a": {"b": torch.ones(1)}}, "tensor at 'a/b'")],
)
def test_save_names_an_invalid_value_before_it_writes(tmp_path, tensors, state, message):
    with pytest.raises(CheckpointError, match=message):
        checkpoint.save(tmp_path, 1, tensors, state)
    assert names(tmp_path) == []


class Toy:
    """A small training with every kind of state: weights, AdamW with two groups, a random generator."""

    def __init__(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        biases = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": biases, "lr": 3e-3}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), amsgrad=True)
        self.generator = torch.Generator().manual_seed(1)

    def train(self, steps):
        for _ in range(steps):
            data = torch.randn(16, 4, generator=self.generator)
            loss = (self.model(data)[:, 0] - data.sum(dim=1)).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def save(self, folder, step):
        tensors, structure = flatten(self.optimizer.state_dict())
        groups = {"policy": self.model.state_dict(), "optimizer": tensors, "random": {"t": self.generator.get_state()}}
        return checkpoint.save(folder, step, groups, {"optimizer": structure})

    def load(self, path):
        tensors, state = checkpoint.load(path)
        self.model.load_state_dict(tensors["policy"])
        self.optimizer.load_state_dict(unflatten(tensors["optimizer"], state["optimizer"]))
        self.generator.set_state(tensors["random"]["t"])


def test_resumed_training_equals_the_uninterrupted_one_bit_for_bit(tmp_path):
    whole, first, resumed = Toy(), Toy(), Toy()
    whole.train(12)
    first.train(5)
    resumed.load(first.save(tmp_path, 5))
    assert resumed.optimizer.state_dict()["param_groups"] == first.optimizer.state_dict()["param_groups"]
    resumed.train(7)
    for expected, found in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(expected, found)
    assert torch.equal(whole.generator.get_state(), resumed.generator.get_state())
