"""Training from Python."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from datetime import date

import numpy as np
import pandas
import pytest
from datasets import Dataset

from agents import fit
from agents.config.compose import compose_config
from agents.train import train
from agents.training.build import load_run
from agents.training.fit import _overrides
from agents.training.folder import read_config
from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.tasks import make

RECORDS = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(40)]
SMALL = {"algo": {"tasks_per_step": 2, "samples_per_task": 2}, "eval_every": 0}
TASKS = {"name": "chain_sum", "size": 40}


@pytest.fixture
def small_fit(tiny_model, tmp_path):
    """Train a tiny model for one step in a folder with the given name."""

    def small(name="run", **options):
        given = {"steps": 1, **SMALL, "policy": {"model": tiny_model, "max_tokens": 8}, "tasks": TASKS, **options}
        return fit(output_dir=tmp_path / name, **given)

    return small


def task_set(records):
    return make(records)


def learned(result):
    """The metrics that depend on the configuration and the seed alone."""
    return result.metrics.filter(regex="^(?!time/|memory/)").fillna(-1).to_dict("records")


def shorter(response, task):
    return -float(len(response))


def test_fit_trains_as_the_command_does(small_fit, tiny_model, tmp_path):
    result = small_fit(steps=2)
    options = ["steps=2", "policy.max_tokens=8", "algo.tasks_per_step=2", "algo.samples_per_task=2", "eval_every=0"]
    options.append("env.tasks={name: chain_sum, size: 40}")
    train(compose_config([*options, f"policy.model={tiny_model}", f"output_dir={tmp_path / 'command'}"]))
    assert learned(result) == learned(type(result)(tmp_path / "command"))
    assert list(result.metrics["step"].dropna()) == [1, 2]


def test_fit_trains_in_a_running_event_loop_and_in_a_thread(small_fit):
    async def inside():
        return small_fit("loop")

    results = [asyncio.run(inside())]
    thread = threading.Thread(target=lambda: results.append(small_fit("thread")))
    thread.start()
    thread.join()
    assert learned(results[0]) == learned(results[1]) == learned(small_fit("plain"))


@pytest.mark.parametrize("form", [list, Dataset.from_list, pandas.DataFrame, task_set])
def test_fit_takes_records_as_tasks(small_fit, form, tmp_path):
    result = small_fit(tasks=form(RECORDS))
    assert len((tmp_path / "run" / "tasks.jsonl").read_text().splitlines()) == len(RECORDS)
    run = load_run(str(result.folder))
    assert {task.answer for task in run.train_tasks} == {record["answer"] for record in RECORDS}
    assert {task.question for task in run.train_tasks} == {record["question"] for record in RECORDS}
    run.close()


def test_fit_refuses_records_that_cannot_be_stored(tmp_path):
    records = [{"question": "1 + 1 =", "answer": "2", "source": object()}]
    with pytest.raises(OptionError, match="cannot be stored"):
        fit(env="single_turn_math", tasks=records, output_dir=str(tmp_path / "run"))


def test_fit_stores_numbers_of_numpy_and_dates(small_fit):
    records = [{"question": "1 + 1?", "answer": np.int64(2), "bins": np.arange(2), "on": date(2026, 1, 2)}] * 4
    stored = small_fit(tasks=records).folder / "tasks.jsonl"
    expected = {"question": "1 + 1?", "answer": 2, "bins": [0, 1], "on": "2026-01-02"}
    assert json.loads(stored.read_text().splitlines()[0]) == expected


def test_fit_takes_a_reward_function(small_fit):
    seen = []

    def closure(response, task):
        seen.append(response)
        return float(len(response))

    result = small_fit(reward=closure)
    assert len(seen) == 4
    assert result.metrics["reward"].iloc[-1] == sum(map(len, seen)) / 4
    assert read_config(small_fit("named", reward=shorter).folder).env.reward.name.endswith(":shorter")


class Scaled:
    def __call__(self, response, task):
        return 3.0


def test_fit_takes_weighted_rewards_partials_and_callable_objects(small_fit):
    rewards = [{"name": shorter, "weight": 0.5}, {"name": "math", "weight": 2}, Scaled()]
    last = small_fit(reward=rewards).metrics.iloc[-1]
    shares = (last[f"episode/rewards/{name}"] for name in ("shorter", "math", "Scaled"))
    assert last["reward"] == pytest.approx(sum(w * value for w, value in zip((0.5, 2, 1), shares, strict=True)))
    twice = small_fit("partial", reward=functools.partial(lambda response, task, n: n, n=2.0))
    assert twice.metrics["reward"].iloc[-1] == 2.0


def test_result_evaluates_and_reports(small_fit):
    result = small_fit()
    assert (result.policy / "config.json").is_file()
    assert result.evaluate(tasks=3, samples=2).samples == 2
    assert result.report().read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    "text",
    [
        'say "yes"',
        "a, b: {c}",
        "\\boxed{}",
        "ends in \\",
        '\\"',
        "line\nbreak",
        "'",
        "null",
        "  x ",
        "${seed} and ${x}",
        "\\${seed}",
        "${",
    ],
)
def test_fit_passes_texts_on_unchanged(text):
    options = {"env": {"name": "single_turn_math", "system_prompt": text}, "policy": {"stop": [text]}}
    config = compose_config(list(_overrides(options)))
    assert config.env.system_prompt == text
    assert config.policy.stop == [text]


def test_fit_sets_options_in_groups_and_by_dotted_key():
    options = {
        "algo": {"name": "grpo", "optimizer": {"learning_rate": 1e-3}},
        "env.tasks": {"name": "chain_sum", "max_terms": 3},
        **{"policy.lora_rank": 4, "steps": None, "epochs": 1},
    }
    config = compose_config(list(_overrides(options)))
    assert config.algo.optimizer.learning_rate == 1e-3
    assert config.env.tasks == {"name": "chain_sum", "max_terms": 3}
    assert (config.policy.lora_rank, config.steps, config.epochs) == (4, None, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"algo": "gppo"}, "Did you mean"),
        ({"stepps": 3}, "Did you mean 'steps'"),
        ({"policy": {"lora_rang": 3}}, r"Did you mean 'policy\.lora_rank'"),
        ({"tasks": 3}, "tasks=3 must be a name"),
        ({"tasks": [{"question": "1 + 1"}]}, "answer"),
    ],
)
def test_fit_gives_the_errors_of_the_command(small_fit, options, message):
    with pytest.raises(ReasonEnvsError, match=message):
        small_fit(**options)


def ungraded(response, task):
    return 1.0, {"length": len(response)}


def test_fit_refuses_a_reward_without_a_verdict_before_it_loads_a_model(tmp_path):
    options = {"policy": {"model": str(tmp_path / "none")}, "tasks": TASKS, "output_dir": tmp_path / "run"}
    message = r"does not report whether it was correct.*return \(value, \{'correct': bool\}\)"
    for reward in (ungraded, [ungraded, shorter]):
        with pytest.raises(ReasonEnvsError, match=message):
            fit(reward=reward, **options)
    with pytest.raises(ReasonEnvsError, match="this folder does not exist"):
        fit(reward=ungraded, eval_every=0, **options)
    with pytest.raises(ReasonEnvsError, match="this folder does not exist"):
        fit(reward=[ungraded, "math"], **options)
