"""The comparison of hand-written workflows: its programs run, and its table has the numbers of the raw rows."""

import asyncio

import pytest
from scripted_engine import ScriptedEngine
from workflow_toys import CODE, MATH, QA, make_env

from benchmarks.real.raw_rows import append
from benchmarks.real.workflows import PROGRAMS, program, solved, table

TASKS = {"humaneval": CODE, "mbpp": CODE, "gsm8k": MATH, "hotpotqa": QA}
CALLS = {"one call": 1, "vote of 3": 3, "vote of 5": 5, "program": 2, "test and repair": 1}


@pytest.mark.parametrize(("data_set", "name"), [(each, name) for each in PROGRAMS for name in PROGRAMS[each]])
def test_programs_run_without_repairs_and_answer(data_set, name):
    task = TASKS[data_set]
    answers = {"gsm8k": r"\boxed{27}", "hotpotqa": "<answer>red ball</answer>"}
    code = "def solve():\n    return 27" if name == "program" else "def f(a):\n    return 2 * a"

    def script(request, seed):
        asked = request.prompt[-1]["content"]
        return code if "solve()" in asked else answers.get(data_set, code)

    row = asyncio.run(solved(make_env(ScriptedEngine(script)), task, name, program(data_set, name)))
    assert row["verdict"] == "ok"
    assert row["correct"]
    assert row["executor_calls"] == CALLS[name]


def test_table_counts_the_problems_of_each_workflow(tmp_path):
    kept = {"score": 1.0, "verdict": "ok", "executor_calls": 1, "generated_tokens": 20}
    rows = [{"id": str(i), "program": "one call", "correct": i < 3, **kept} for i in range(4)]
    append(tmp_path / "mbpp.jsonl", rows)
    heading, _, line = table(tmp_path)
    assert heading.startswith("| data set | workflow | problems | right |")
    assert line.startswith("| mbpp | one call | 4 | 75.0% | ")
    assert line.endswith(" | - | 1.0 | 20 | 0% |")
