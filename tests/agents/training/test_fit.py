"""Training from Python."""

from __future__ import annotations

import asyncio
import functools
import threading

import pandas
import pytest
from datasets import Dataset

from agents import fit
from agents.config.compose import compose_config
from agents.train import train
from agents.training.build import load_run
from agents.training.fit import _overrides
from agents.training.folder import read_config
from reason_envs.errors import ReasonEnvsError

RECORDS = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(40)]
SMALL = {"policy": {"max_tokens": 8}, "algo": {"tasks_per_step": 2, "samples_per_task": 2}, "eval_every": 0}


def small_fit(tmp_path, **options):
    return fit(output_dir=tmp_path / "run", **{"steps": 1, **SMALL, **options})


def learned(result):
    """The metrics that depend on the configuration and the seed alone."""
    return result.metrics.filter(regex="^(?!time/|memory/)").fillna(-1).to_dict("records")


def shorter(response, task):
    return -float(len(response))


def test_fit_trains_as_the_command_does(tmp_path):
    result = small_fit(tmp_path, steps=2)
    options = ["steps=2", "policy.max_tokens=8", "algo.tasks_per_step=2", "algo.samples_per_task=2", "eval_every=0"]
    train(compose_config([*options, f"output_dir={tmp_path / 'command'}"]))
    assert learned(result) == learned(type(result)(tmp_path / "command"))
    assert list(result.metrics["step"].dropna()) == [1, 2]


def test_fit_trains_in_a_running_event_loop_and_in_a_thread(tmp_path):
    async def inside():
        return small_fit(tmp_path / "loop")

    results = [asyncio.run(inside())]
    thread = threading.Thread(target=lambda: results.append(small_fit(tmp_path / "thread")))
    thread.start()
    thread.join()
    assert learned(results[0]) == learned(results[1]) == learned(small_fit(tmp_path / "plain"))


@pytest.mark.parametrize("form", [list, Dataset.from_list, pandas.DataFrame])
def test_fit_takes_records_as_tasks(form, tmp_path):
    result = small_fit(tmp_path, tasks=form(RECORDS))
    assert len((tmp_path / "run" / "tasks.jsonl").read_text().splitlines()) == len(RECORDS)
    run = load_run(str(result.folder))
    assert {task.question for task in run.train_tasks} == {record["question"] for record in RECORDS}
    run.close()


def test_fit_takes_a_reward_function(tmp_path):
    seen = []

    def closure(response, task):
        seen.append(response)
        return float(len(response))

    result = small_fit(tmp_path, reward=closure)
    assert len(seen) == 4
    assert result.metrics["reward"].iloc[-1] == sum(map(len, seen)) / 4
    assert read_config(small_fit(tmp_path / "named", reward=shorter).folder).env.reward.name.endswith(":shorter")


class Scaled:
    def __call__(self, response, task):
        return 3.0


def test_fit_takes_weighted_rewards_partials_and_callable_objects(tmp_path):
    rewards = [{"name": shorter, "weight": 0.5}, {"name": "math", "weight": 2}, Scaled()]
    last = small_fit(tmp_path, reward=rewards).metrics.iloc[-1]
    shares = (last[f"episode/rewards/{name}"] for name in ("shorter", "math", "Scaled"))
    assert last["reward"] == pytest.approx(sum(w * value for w, value in zip((0.5, 2, 1), shares, strict=True)))
    twice = small_fit(tmp_path / "partial", reward=functools.partial(lambda response, task, n: n, n=2.0))
    assert twice.metrics["reward"].iloc[-1] == 2.0


def test_result_evaluates_and_reports(tmp_path):
    result = small_fit(tmp_path)
    assert (result.policy / "config.json").is_file()
    assert result.evaluate(tasks=3, samples=2).samples == 2
    assert result.report().read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    "text",
    ['say "yes"', "a, b: {c}", "\\boxed{}", "ends in \\", '\\"', "line\nbreak", "'", "null", "  x "],
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
def test_fit_gives_the_errors_of_the_command(options, message, tmp_path):
    with pytest.raises(ReasonEnvsError, match=message):
        small_fit(tmp_path, **options)
