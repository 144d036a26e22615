"""Sums with labelled steps: exact labels, the train split, and the same file from the same seed."""

from __future__ import annotations

import json
import subprocess
import sys

from agents.reward_model.metrics import check_step
from benchmarks.embedded_models.step_reward_model.demonstrations import SLIP_RATE, judged_sums
from reason_envs.tasks.base import split_of


def test_judged_sums_label_steps_up_to_the_first_mistake():
    wrong_equations = equations = 0
    for row in judged_sums(300, seed=1):
        verdicts = [check_step(step) for step in row["steps"][:-1]]
        equations += len(verdicts)
        wrong_equations += verdicts.count(False)
        first = verdicts.index(False) if False in verdicts else len(row["steps"])
        assert row["labels"] == [1.0] * first + [0.0] * (len(row["steps"]) - first)
        assert row["correct"] == (first == len(row["steps"]))
        assert row["steps"][-1].startswith(r"\boxed{")
    assert abs(wrong_equations / equations - SLIP_RATE) < 0.05


def test_judged_sums_have_only_the_train_split():
    rows = list(judged_sums(200, seed=2))
    assert {split_of(row["question"]) for row in rows} == {"train"}
    assert rows == list(judged_sums(200, seed=2))
    assert rows != list(judged_sums(200, seed=3))


def test_main_writes_json_lines(tmp_path):
    file = tmp_path / "judged.jsonl"
    module = "benchmarks.embedded_models.step_reward_model.demonstrations"
    subprocess.run([sys.executable, "-m", module, str(file), "--count", "5", "--seed", "4"], check=True)
    assert [json.loads(line) for line in file.read_text().splitlines()] == list(judged_sums(5, seed=4))
