"""Two training processes on one machine: the same run as with one process, one writer of files, exact resuming."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from ranks import finish, in_ranks
from safetensors.torch import load_file

from agents import train as command
from agents.config.compose import compose_config

OPTIONS = [
    "steps=3",
    "env.tasks.size=48",
    "env.tasks.max_terms=3",
    "algo.tasks_per_step=3",
    "algo.samples_per_task=4",
    "algo.micro_batch_size=4",
    "algo.minibatch_size=6",
    "algo.kl_coef=0.05",
    "policy.lora_rank=4",
    "policy.lora_dropout=0.1",
    "policy.max_tokens=24",
    "eval_set={name: chain_sum, size: 5}",
    "eval_every=2",
]


def launch(folder, *options):
    """Start two training processes with PyTorch's launcher."""
    launcher = ["torch.distributed.run", "--nproc_per_node", "2", "--standalone", "-m"]
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, "agents.train", *options, f"output_dir={folder}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def train_alone(folder, *options):
    """Train in this process, with one thread as the others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    command.train(compose_config([*options, f"output_dir={folder}"]))
    torch.set_num_threads(threads)


def rows(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith(("time/", "memory/"))} for line in lines]


def assert_equal_runs(one, other):
    assert len(rows(one)) == len(rows(other))
    for left, right in zip(rows(one), rows(other), strict=True):
        assert left.keys() == right.keys()
        for name, value in left.items():
            tolerance = 5e-5 if name == "sync_gap" else 1e-6  # the gap consists of rounding errors
            assert right[name] == pytest.approx(value, rel=1e-4, abs=tolerance), (left["step"], name)
    mine, theirs = (load_file(f / "checkpoints" / "step_3" / "policy.safetensors") for f in (one, other))
    assert all((mine[name] - theirs[name]).abs().max() < 1e-6 for name in mine)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    train_alone(folder, *OPTIONS)
    return folder


def test_interrupted_run_of_two_processes_equals_a_whole_one_of_one(alone, tmp_path):
    folder = tmp_path / "run"
    process = launch(folder, *OPTIONS)
    deadline = time.monotonic() + 200
    while not (folder / "metrics.jsonl").exists() or len(rows(folder)) < 2:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    code, output = finish(process)
    assert code != 0, output
    code, output = in_ranks("train", f"resume={folder}")
    assert code == 0, output
    assert "in 2 processes" in output
    assert output.count("tokens generated") == 1, "one process reports"
    assert_equal_runs(alone, folder)


def test_two_processes_train_roles_like_one(tmp_path):
    options = [*OPTIONS, "algo=at_grpo", "policy.sharing=lora_per_role"]
    train_alone(tmp_path / "1", *options)
    code, output = in_ranks("train", *options, f"output_dir={tmp_path / '2'}")
    assert code == 0, output
    assert_equal_runs(tmp_path / "1", tmp_path / "2")


def test_sharded_run_verifies_its_weights_and_is_resumed_by_one_process(alone, tmp_path):
    folder = tmp_path / "run"
    code, output = in_ranks("train", *OPTIONS, "steps=1", "cluster.learner.shard=full", f"output_dir={folder}")
    assert code == 0, output
    command.resume([f"resume={folder}", "steps=2"])
    expected, learned = ([row for row in rows(run) if "loss" in row] for run in (alone, folder))
    assert [row["step"] for row in learned] == [1, 2]
    assert all(row["sync_gap"] < 5e-5 for row in learned)
    for name in ("reward", "tokens", "loss_tokens", "frac_zero_std"):  # others depend on the masks of dropout
        assert learned[0][name] == pytest.approx(expected[0][name]), name


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (extra [vllm])")
def test_each_process_has_its_own_vllm_engine(tmp_path):
    vllm = ["engine=vllm", "engine.enforce_eager=true", "engine.kv_cache_gib=0.25", "policy.device=cpu", "steps=2"]
    code, output = finish(launch(tmp_path / "run", *OPTIONS, *vllm), timeout=540)
    assert code == 0, output
    assert "in 2 processes" in output
    assert [row["step"] for row in rows(tmp_path / "run") if "loss" in row] == [1, 2]
    assert all(row["sync_gap"] < 1e-3 for row in rows(tmp_path / "run") if "sync_gap" in row)
