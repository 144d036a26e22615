"""Engines and learners in Ray actors: runs equal to those without Ray, lost processes, and runs that are killed."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import torch
from doc_pages import ROOT, blocks
from ranks import in_ranks
from run_toys import OPTIONS, checkpoints, make_run, make_trainer, overrides, rows, train

from agents.config.cluster import ClusterConfig, EnginePlacement
from agents.config.compose import compose_config
from agents.training.build import connect
from reason_envs.errors import OptionError
from reason_envs.llm import make_engine
from reason_envs.llm.engine import GenerationRequest, Sampling
from reason_envs.sandbox import Limits, Program, make_sandbox

ray = pytest.importorskip("ray")
SMALL = {
    **{"RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": "200000000", "RAY_memory_monitor_refresh_ms": "0"},
    "RAY_worker_niceness": "0",
}
PROMPT = [{"role": "user", "content": "What is 4 + 5?"}]
LEARNERS = ("cluster.address=local", "cluster.learner.gpus=2")


@pytest.fixture(scope="module", autouse=True)
def two_cores():
    """Ray on this computer, which the tests share. One thread here as in the actors: more threads round otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray") as folder:
        here = {"RAY_TMPDIR": folder, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        for name, value in {**SMALL, **here}.items():
            patch.setenv(name, value)
        ray.init("local", num_cpus=2, include_dashboard=False)
        yield
        ray.shutdown()
    torch.set_num_threads(threads)


def cluster(replicas):
    return connect(ClusterConfig("local", 120, EnginePlacement(replicas)))


def replicas_below(process, kind="ServedEngine"):
    """Return the processes of Ray actors that a process has started, directly or not."""
    alive = [each for each in process.children(recursive=True) if each.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if kind in " ".join(child.cmdline())]


def start(*options, **pipes):
    """Start a run that starts its own Ray."""
    command = [sys.executable, "-m", "agents.train", *map(str, options)]
    return psutil.Popen(command, env={**os.environ, **SMALL}, text=True, **pipes)


def wait_for_steps(run, folder, steps):
    """Wait until a run has logged some steps."""
    metrics, deadline = folder / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") > steps):
        assert run.poll() is None, "the run ended too early"
        assert time.monotonic() < deadline, "the run is too slow"
        time.sleep(0.5)


@pytest.mark.parametrize("replicas", [1, 2])
def test_ray_run_equals_a_run_in_one_process(tiny_model, tmp_path, replicas):
    train(make_run(tiny_model, tmp_path / "alone"))
    trainer = make_run(tiny_model, tmp_path / "ray", "cluster.address=local", f"cluster.engine.replicas={replicas}")
    train(trainer)
    trainer.run.close()
    for left, right in zip(rows(tmp_path / "ray"), rows(tmp_path / "alone"), strict=True):
        assert left == (right if replicas == 1 else pytest.approx(right, abs=1e-6))


def test_ray_replicas_that_are_killed_or_hang_in_a_batch_give_the_same_tokens(tiny_model):
    spec = {"name": "transformers", "model": tiny_model, "device": "cpu"}
    requests = [GenerationRequest(PROMPT, seed, Sampling(max_tokens=400)) for seed in range(16)]

    async def sampled(engine, *signals):
        calls = asyncio.gather(*(engine.generate(request) for request in requests))
        await asyncio.sleep(0.5)
        for process, number in signals:
            process.send_signal(number)
        return [generation.token_ids for (generation,) in await calls]

    held = cluster(2)
    engine = held.engine(spec)
    for seat in engine._seats:
        seat.replica._timeout = 20  # those that replace them have more time to start
    victims = replicas_below(psutil.Process())
    expected = asyncio.run(sampled(make_engine(spec)))
    assert asyncio.run(sampled(engine, *zip(victims, (signal.SIGKILL, signal.SIGSTOP), strict=True))) == expected
    assert asyncio.run(engine.score([1, 2, 3], 1))  # waits for new replicas
    assert psutil.wait_procs(victims, timeout=20)[1] == []
    assert len(replicas_below(psutil.Process())) == 2
    held.close()


@pytest.mark.parametrize("name", ["monty", "native"])
def test_ray_programs_have_the_outcomes_of_the_same_sandbox_here(name):
    sources = ["print(6 * 7)", "x = 3", "1 / 0", "while True: pass"]
    programs = [Program(source, expressions=("x",), limits=Limits(seconds=1)) for source in sources]
    held = connect(ClusterConfig("local", 60, workers=2))
    with held.sandboxes():
        sandbox = make_sandbox({"name": name, "output_bytes": 1000})
    here = make_sandbox(name, output_bytes=1000)
    for program in programs * 2:
        there, expected = sandbox.execute(program), here.execute(program)
        parts = [(each.status, each.stdout, each.values, each.reason.partition(":")[0]) for each in (there, expected)]
        assert parts[0] == parts[1]
    assert sandbox.summary == f"2 processes of Ray, each with {here.summary}"
    sandbox.close()
    here.close()
    held.close()


def test_ray_repeats_the_program_of_a_process_that_is_killed():
    held = connect(ClusterConfig("local", 60, workers=2))
    with held.sandboxes():
        sandbox = make_sandbox("monty")
    slow = Program("for i in range(30000000): pass\nprint(2)", limits=Limits(seconds=60))
    with ThreadPoolExecutor() as threads:
        running, deadline = threads.submit(sandbox.execute, slow), time.monotonic() + 30
        while not (found := replicas_below(psutil.Process(), "run_program")) and time.monotonic() < deadline:
            time.sleep(0.05)
        found[0].kill()
        assert running.result().stdout == "2\n"
    sandbox.close()
    held.close()


def test_ray_runs_the_programs_of_a_run(tiny_model, tmp_path):
    short = ("env.max_turns=1", *(option for option in OPTIONS if not option.startswith("env.reward")))
    options = ("env=petting_math", f"policy.model={tiny_model}", "cluster.address=local", *short)
    train(make_trainer([*options, f"output_dir={tmp_path / 'here'}"]))
    trainer = make_trainer([*options, f"output_dir={tmp_path / 'there'}", "cluster.workers=2"])
    train(trainer)
    assert trainer.run.environment.sandbox.summary.startswith("2 processes of Ray, each with monty")
    trainer.run.close()
    assert rows(tmp_path / "there") == rows(tmp_path / "here")


def test_ray_errors_of_the_engine_name_the_option(tiny_model):
    held = cluster(1)
    with pytest.raises(OptionError, match=r"^model='/nowhere' is a path, but this folder does not exist"):
        held.engine({"name": "transformers", "model": "/nowhere"})
    held.close()


def test_ray_refuses_more_gpus_than_it_has(tiny_model):
    held = connect(ClusterConfig("local", 120, EnginePlacement(2, 0.5)))
    with pytest.raises(OptionError, match=r"^cluster\.engine\.replicas=2 with 0\.5 GPUs each needs more than the 0 of"):
        held.engine({"name": "transformers", "model": tiny_model})
    held.close()


def test_ray_address_that_does_not_answer_is_refused(tiny_model, tmp_path):
    command = [sys.executable, "-m", "agents.train", *overrides(tiny_model, tmp_path / "run")]
    for address in ("127.0.0.1:9", "ray://127.0.0.1:9"):
        ended = subprocess.run([*command, f"cluster.address={address}"], capture_output=True, text=True, timeout=120)
        assert ended.returncode == 2
        assert f"cluster.address='{address}' does not answer" in ended.stderr
        assert len(ended.stderr.strip().splitlines()) <= 2


def test_ray_address_that_fails_is_refused_with_the_cause(monkeypatch):
    def fail(*_, **__):
        raise ConnectionAbortedError("Initialization failure from server:\nTraceback:\nRuntimeError: no server.\n")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(OptionError, match=r"^cluster\.address='auto' does not answer \(RuntimeError: no server\.\)"):
        connect(ClusterConfig("auto"))


def test_ray_processes_end_with_a_run_that_is_killed(tiny_model, tmp_path):
    options = overrides(tiny_model, tmp_path / "run", "steps=100000", "cluster.address=local")
    run = start(*options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_steps(run, tmp_path / "run", 2)
    actors = replicas_below(run)
    assert actors
    run.kill()
    run.wait()
    assert psutil.wait_procs(actors, timeout=60)[1] == []


@pytest.mark.slow
def test_ray_learners_equal_those_of_torchrun(tiny_model, tmp_path):
    ray_run = start(*overrides(tiny_model, tmp_path / "ray", *LEARNERS), stdout=subprocess.PIPE)
    output, _ = ray_run.communicate(timeout=300)
    assert ray_run.returncode == 0, output
    assert "in 2 processes" in output
    code, output = in_ranks("train", *overrides(tiny_model, tmp_path / "torchrun"))
    assert code == 0, output
    assert rows(tmp_path / "ray") == rows(tmp_path / "torchrun")


@pytest.mark.slow
def test_ray_run_that_loses_a_learner_names_it_and_is_resumed(tiny_model, tmp_path):
    folder = tmp_path / "run"
    long = (*LEARNERS, "cluster.learner.shard=full", "steps=100000", "save_every=1")
    run = start(*overrides(tiny_model, folder, *long), stderr=subprocess.PIPE)
    wait_for_steps(run, folder, 2)
    (learner,) = replicas_below(run, "Learner.run")
    children = run.children(recursive=True)
    learner.kill()
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 2, errors
    assert "error: The learner of rank 1 has ended: " in errors
    assert psutil.wait_procs(children, timeout=60)[1] == []
    saved = int(checkpoints(folder)[-1].removeprefix("step_"))
    resumed = start(f"resume={folder}", f"steps={saved + 1}", stderr=subprocess.PIPE)
    _, errors = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, errors
    assert rows(folder)[-1]["step"] == saved + 1


def test_ray_refuses_more_learners_than_it_has_processors(tiny_model, tmp_path):
    config = compose_config(overrides(tiny_model, tmp_path, "cluster.address=local", "cluster.learner.gpus=3"))
    held = connect(config.cluster)
    expected = r"^cluster\.learner\.gpus=3 needs as many free CPUs, one of them on this computer\. The cluster has 2\."
    with pytest.raises(OptionError, match=expected), held.learners(print, config):
        pass
    held.close()


@pytest.mark.parametrize("runners", [0, 1])
def test_ray_rllib_trains_and_acts_within_the_action_mask(runners, capsys):
    pytest.importorskip("ray.rllib.algorithms.ppo", reason="RLlib needs dm-tree, lz4, ormsgpack and scipy")
    (block,) = (block for block in blocks(ROOT / "docs" / "other_libraries.md") if "ray.rllib" in block.code)
    assert "num_env_runners=0" in block.code
    code = block.code.replace("num_env_runners=0", f"num_env_runners={runners}")
    exec(code, {"__name__": "__main__"})  # Ray sends classes of this module by value
    assert capsys.readouterr().out.endswith(block.output)  # after what Ray prints
