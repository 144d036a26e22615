"""Runs of env=workflow: their first model, a short run on the embedded model, and the pipeline."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
from openai_server import Server, reply
from run_toys import make_trainer, rows, train

from agents.config.compose import compose_config
from agents.evaluation.evaluate_policy import Evaluation, summarise
from agents.trajectory import Trajectory
from reason_envs.errors import EngineError, ReasonEnvsError
from reason_envs.tasks import make

ROOT = Path(__file__).resolve().parents[3]


def load_script(path):
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pipeline():
    return load_script(ROOT / "benchmarks" / "workflow" / "pipeline.py")


@pytest.mark.parametrize(
    ("overrides", "model"),
    [
        ([], "embedded"),
        (["env=workflow"], "embedded:workflow"),
        (["env=workflow", "policy.model=mine"], "mine"),
        (["env=reason_tree", "algo=grpo", "policy=language"], "embedded"),
    ],
)
def test_compose_chooses_the_model_of_the_environment(overrides, model):
    config = compose_config(overrides)
    assert (config.policy.model, config.algo.name) == (model, "grpo")


def test_short_run_trains_evaluates_and_counts_the_tokens_of_the_executors(tmp_path):
    small = ["steps=2", "algo.tasks_per_step=3", "algo.samples_per_task=4", "eval_tasks=6", "eval_every=1"]
    trainer = make_trainer(["env=workflow", *small, "env.tasks.size=60", f"output_dir={tmp_path / 'run'}"])
    train(trainer)
    trainer.run.close()
    steps = [row for row in rows(tmp_path / "run") if "reward" in row]
    assert len(steps) == 2
    assert all(0 <= row["reward"] <= 1 and row["episode/generated_tokens"] > 0 for row in steps)
    assert steps[-1]["tokens"] > sum(12 * row["response_length"] for row in steps)
    assert any("eval/accuracy" in row for row in rows(tmp_path / "run"))


def test_pipeline_mixes_benchmarks_in_the_ratios_of_their_domains(pipeline, tmp_path, capsys):
    shutil.copytree(ROOT / "tests" / "data" / "tasks", tmp_path / "data")
    for name, count in (("hotpotqa", 40), ("drop", 40), ("humaneval", 30), ("mbpp", 30)):
        file = tmp_path / "data" / f"{name}.jsonl"
        record = file.read_text().splitlines()[0]
        words = {"hotpotqa": "Lime Hall", "drop": "Reds", "humaneval": "double", "mbpp": "double"}[name]
        file.write_text("\n".join(record.replace(words, f"{words}{chr(97 + i % 26)}{i}") for i in range(count)) + "\n")
    benchmarks = [name for name in pipeline.NAMES if name != "math"]
    pipeline.prepare(tmp_path / "data", benchmarks)
    shown = capsys.readouterr()
    assert "humaneval is not mixed: it is for evaluation only" in shown.err
    assert "(gsm8k, hotpotqa, drop, mbpp)" in shown.out
    assert "{'math': 2, 'qa': 2, 'code': 1}" in shown.out
    assert "of hotpotqa to keep the ratios, because gsm8k has 2" in shown.out
    path = {split: str(tmp_path / "data" / "mixed" / f"{split}_mixed.jsonl") for split in ("train", "test")}
    tasks = list(make({"name": "json", "path": path}, "train"))
    domains = [task.metadata["domain"] for task in tasks]
    assert (domains.count("math"), domains.count("qa"), domains.count("code")) == (2, 2, 1)
    assert all("tests" in task.metadata for task in tasks if task.metadata["domain"] == "code")
    preset = compose_config(["+experiment=workflow_aflow", *pipeline._data(tmp_path / "data" / "mixed")])
    assert preset.env.tasks["path"] == path


def test_pipeline_takes_folders_with_one_file_and_holds_out_what_it_trains_on(pipeline, tmp_path):
    for name in ("humaneval", "mbpp"):
        (tmp_path / name).mkdir()
        record = (ROOT / "tests" / "data" / "tasks" / f"{name}.jsonl").read_text().splitlines()[0]
        lines = [record.replace("double", f"double{i}") for i in range(50)]
        file = {"humaneval": "HumanEval.jsonl", "mbpp": "test.jsonl"}[name]
        (tmp_path / name / file).write_text("\n".join(lines) + "\n")
    assert len(make(pipeline.source("humaneval", tmp_path), "test")) == 50
    train, test = (make(pipeline.source("mbpp", tmp_path), split) for split in ("train", "test"))
    assert len(train) + len(test) == 50
    assert not {task.question for task in train} & {task.question for task in test}
    with pytest.raises(ReasonEnvsError, match="No benchmark of the domain code has problems to train on"):
        pipeline.prepare(tmp_path, ["humaneval"])


def test_pipeline_keeps_the_results_of_the_benchmarks_that_can_be_evaluated(pipeline, tmp_path, capsys, monkeypatch):
    seen = {}

    async def evaluated(config, overrides, sets):
        seen.update(vars(config), overrides=overrides, sets=sets)
        played = [
            Trajectory("t", "e", [], True, False, {"correct": c}, failure=f) for c, f in ((1, ""), (0, ""), (0, "x"))
        ]
        return {"gsm8k": Evaluation(summarise(played, 1, 0), [], played)}, {"mbpp": "3 of 4 episodes failed"}

    monkeypatch.setattr(pipeline, "run_evaluation", evaluated)
    checkpoint = tmp_path / "run" / "checkpoints" / "step_4"
    checkpoint.mkdir(parents=True)
    shutil.copytree(ROOT / "tests" / "data" / "tasks", tmp_path / "data")
    (tmp_path / "data" / "drop.jsonl").write_text("{broken")
    chosen = ["--benchmarks", "gsm8k", "drop", "mbpp", "--model", "other", "--device", "cpu"]
    pipeline.main(["evaluate", "--checkpoint", str(checkpoint), "--data", str(tmp_path / "data"), *chosen])
    assert seen["checkpoint"] == str(checkpoint)
    assert seen["overrides"] == ["policy.model=other", "placement.policy=cpu"]
    assert set(seen["sets"]) == {"gsm8k", "mbpp"}
    results = json.loads((tmp_path / "run" / "six_benchmarks.json").read_text())
    assert (results["gsm8k"]["mean"], results["gsm8k"]["n"]) == (0.5, 2)
    assert results["gsm8k"]["engine_failures"] == pytest.approx(1 / 3)
    assert "error" in results["drop"]
    shown = capsys.readouterr().out
    assert "mbpp       not evaluated: 3 of 4 episodes failed" in shown
    assert " 0.0%" not in shown


@pytest.mark.parametrize("status", [401, None])
def test_run_checks_its_executor_before_it_loads_a_model(tmp_path, monkeypatch, status):
    server = Server()
    server.script = lambda body, number: reply(status=status)
    if status is None:
        server.close()
    monkeypatch.setattr("agents.training.build.policy_engines", lambda *_: pytest.fail("a model was loaded"))
    engine = f"{{name: openai, model: m, base_url: '{server.url}', backoff_s: 0.01}}"
    with pytest.raises(EngineError, match="requires a key" if status else "connection failed"):
        make_trainer(["env=workflow", f"env.engine={engine}", f"output_dir={tmp_path / 'run'}"])
    if status is not None:
        server.close()


@pytest.mark.slow
def test_pipeline_runs_offline(pipeline, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    arguments = ["--smoke", "--output", str(tmp_path / "run"), "--problems", "8", "--data", str(tmp_path)]
    pipeline.main(["all", "steps=1", "algo.tasks_per_step=2", "algo.samples_per_task=2", *arguments])
    results = json.loads((tmp_path / "run" / "six_benchmarks.json").read_text())
    assert set(results) == {"gsm8k", "hotpotqa", "mbpp"}
    assert all(0 <= result["low"] <= result["mean"] <= result["high"] <= 1 for result in results.values())
    assert sys.executable in capfd.readouterr().out


def test_compose_takes_reward_and_executors_of_the_environment():
    assert compose_config(["env=workflow", "env.reward=random"]).env.reward == "random"
    assert compose_config(["env=reason_tree", "env.reward=random"]).env.reward == "random"
    assert compose_config(["env.reward=random"]).env.reward.name == "random"
    executors = "env.executors={Programmer: {name: openai, model: m}}"
    assert compose_config(["env=workflow", executors]).env.executors == {"Programmer": {"name": "openai", "model": "m"}}
