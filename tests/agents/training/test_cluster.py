"""Runs whose engines are in replicas: equal to a run without, also if a replica is lost. No test here needs Ray."""

import importlib.util

import pytest
from pool_toys import ToyCluster
from run_toys import checkpoints, final_weights, make_run, rows, train

from agents import distributed
from agents.config.compose import compose_config
from agents.training import build, start
from agents.training.resolve import resolve
from reason_envs.errors import OptionError, ReasonEnvsError, RunError

OPTIONS = ("eval_every=0", "save_every=0", "policy.lora_rank=4")


@pytest.fixture(scope="module")
def alone(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    train(make_run(tiny_model, folder, *OPTIONS))
    return folder


@pytest.fixture
def make(tiny_model, tmp_path, monkeypatch):
    trainers = []

    def make_clustered(cluster, *more):
        monkeypatch.setattr(build, "connect", lambda config: cluster)
        trainers.append(make_run(tiny_model, tmp_path / "run", *OPTIONS, *more))
        return trainers[-1]

    yield make_clustered
    for trainer in trainers:
        trainer.run.close()
        assert trainer.run.cluster.is_closed


def assert_equal(folder, other):
    for left, right in zip(rows(folder), rows(other), strict=True):
        assert left == pytest.approx(right, abs=1e-6)


def test_run_with_one_replica_equals_a_run_without_bit_for_bit(make, alone, tmp_path):
    train(make(ToyCluster()))
    assert rows(tmp_path / "run") == rows(alone)
    mine, theirs = final_weights(tmp_path / "run"), final_weights(alone)
    assert all(mine[name].equal(theirs[name]) for name in theirs)


def test_run_with_two_replicas_equals_a_run_without(make, alone, tmp_path):
    cluster = ToyCluster(2)
    train(make(cluster))
    assert_equal(tmp_path / "run", alone)
    assert all(replica.calls.count("generate") >= 4 for replica in cluster.started)


def test_run_that_loses_a_replica_equals_a_run_without(make, alone, tmp_path):
    cluster = ToyCluster(2, kill_at=3)
    train(make(cluster))
    assert_equal(tmp_path / "run", alone)
    assert len(cluster.started) == 3
    assert cluster.started[2].calls[:2] == ["open", "load_weights"]


def test_run_without_replicas_saves_and_stops(make, tmp_path):
    trainer = make(ToyCluster(kill_at=4, restarts_fail=True))
    with pytest.raises(RunError, match="No replica of the engine is left after 3 restarts of each: The computer is go"):
        train(trainer)
    assert checkpoints(tmp_path / "run") == ["step_0", "step_2"]


def test_frozen_engines_of_an_environment_are_in_replicas(tiny_model, tmp_path, monkeypatch):
    cluster = ToyCluster()
    monkeypatch.setattr(build, "connect", lambda config: cluster)
    solver = f"env.solver={{name: transformers, model: {tiny_model}, device: cpu}}"
    tasks = "env.tasks={name: chain_sum, max_samples: 20}"
    options = ["env=planner_solver", tasks, solver, f"policy.model={tiny_model}", "policy.device=cpu"]
    run = build.build(resolve(compose_config([*options, f"output_dir={tmp_path}"])))
    assert cluster.pools == [run.environment.solver, *run.engines]
    run.close()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("cluster.address=here", r"^cluster\.address='here' must be local, auto, HOST:PORT or ray://HOST:PORT"),
        ("cluster.engine.replicas=2", r"^cluster\.engine=.*replicas=2.* needs cluster\.address"),
        ("cluster.learner.gpus=2", r"^cluster\.learner\.gpus=2 needs cluster\.address"),
        ("cluster.timeout_s=0", r"^cluster\.timeout_s=0\.0 must be above 0"),
    ],
)
def test_wrong_options_are_refused(option, message):
    with pytest.raises(OptionError, match=message):
        compose_config([option])


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["policy.device=cuda:0"], "policy.device"),
        (["env=reason_tree", "placement.generator=cuda:1"], "engine.device"),
        (["env=reason_tree", "placement.reward_model=cuda:1"], "reward_model.device"),
    ],
)
def test_named_devices_are_refused_with_an_address(arguments, key):
    with pytest.raises(OptionError, match=f"{key}='cuda:.' cannot be given with cluster.address=local"):
        resolve(compose_config(["cluster.address=local", *arguments]))


def test_several_learners_need_a_ray_that_runs_already(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 2)
    resolve(compose_config(["cluster.address=auto"]))
    with pytest.raises(OptionError, match=r"^cluster\.address='local' is one process: run `ray start --head`"):
        resolve(compose_config(["cluster.address=local"]))


def test_learners_of_ray_use_the_ray_that_they_belong_to(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 2)
    resolve(compose_config(["cluster.address=local", "cluster.learner.gpus=2"]))


def test_learners_of_ray_and_those_of_a_launcher_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(distributed, "start", lambda: None)
    config = compose_config([f"output_dir={tmp_path}", "cluster.address=auto", "cluster.learner.gpus=2"])
    with pytest.raises(OptionError, match=r"^cluster\.learner\.gpus=2 but 1 processes run"):
        start.train(config)


def test_address_needs_ray_before_anything_loads(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ReasonEnvsError, match=r"^cluster\.address=auto needs ray, .*pip install "):
        make_run(tiny_model, tmp_path / "run", "cluster.address=auto")
