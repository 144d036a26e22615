"""Damaged run folders and task files give errors of this library that name the file, never raw exceptions.

`REASON_ENVS_LONG_TESTS=1` damages every file in every way; otherwise each file is damaged in some ways.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil

import pytest
from run_toys import make_run, train

from agents import train as command
from agents.report import write_report
from agents.training.build import load_run
from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards.code.tests import UnitTests, read_tests, split
from reason_envs.tasks.registry import make as make_tasks

LONG = bool(os.environ.get("REASON_ENVS_LONG_TESTS"))
GARBAGE = random.Random(0).randbytes(500)
TEXTS = ["[]", "5", "null", '"text"', '{"a": 1}', '{"step": "x", "files": 5, "format": 1}', "[" * 100_000, "{"]


def emptied(path):
    path.write_bytes(b"")


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbled(path):
    path.write_bytes(GARBAGE)


def turned_into_a_folder(path):
    path.unlink()
    (path / "inside").mkdir(parents=True)


def deleted(path):
    path.unlink()


def rewritten(text):
    def change(path):
        path.write_text(f"{text}\n")

    return change


DAMAGES = {change.__name__: change for change in (emptied, halved, garbled, turned_into_a_folder, deleted)}
DAMAGES |= {f"text_{number}": rewritten(text) for number, text in enumerate(TEXTS)}


def chosen(places, share):
    """Return pairs of places and damages: all of them, or a share."""
    pairs = [(place, damage) for place in places for damage in DAMAGES]
    return pairs if LONG else random.Random(1).sample(pairs, int(share * len(pairs)))


@pytest.fixture(scope="module")
def whole(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(make_run(tiny_model, folder, "steps=2", "eval_every=2"))
    return folder


def resume(folder):
    command.resume([f"resume={folder}", "steps=3"])


def evaluate(folder):
    load_run(str(folder)).close()


def report(folder):
    write_report([folder], folder / "page.html")


def is_own(action, folder):
    try:
        action(folder)
    except ReasonEnvsError as error:
        return len(str(error)) < 2000
    return True


SHARES = {"resume": 0.03, "evaluate": 0.05, "report": 0.3}


@pytest.mark.timeout(7200 if LONG else 300)
@pytest.mark.parametrize("action", [resume, evaluate, report])
def test_damaged_run_folders_raise_own_errors(whole, tmp_path, action):
    raw = []
    files = [
        path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file() and "step_0" not in path.parts
    ]
    for number, (name, damage) in enumerate(chosen(files, SHARES[action.__name__])):
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        DAMAGES[damage](folder / name)
        try:
            assert is_own(action, folder)
        except Exception as error:  # noqa: BLE001
            raw.append((str(name), damage, repr(error)[:200]))
        shutil.rmtree(folder)
    assert raw == []


RECORDS = {
    "json": {"question": "1 + 1", "answer": 2},
    "gsm8k": {"question": "1 + 1", "answer": "It is 2.\n#### 2"},
    "math": {"problem": "1 + 1", "solution": r"It is \boxed{2}."},
    "hotpotqa": {"question": "Who?", "answer": "Ada", "context": [["Ada", ["She wrote.", "Programs."]]]},
    "drop": {"passage": "Ada wrote.", "question": "Who?", "answers_spans": {"spans": ["Ada"]}},
    "humaneval": {"prompt": "def f():\n", "canonical_solution": "    return 1", "test": "assert 1", "entry_point": "f"},
    "mbpp": {"text": "Return 1.", "code": "def f():\n    return 1", "test_list": ["assert f() == 1"]},
}
VALUES = [
    None,
    5,
    -1.5,
    True,
    "",
    " ",
    "def",
    "\\boxed{",
    [],
    [1],
    [[]],
    {},
    {"a": 1},
    [None],
    "x" * 10**5,
    "\0",
    "{" * 300,
]


def hurt_records(record):
    """Yield records with one field that is missing or has another type."""
    for name in record:
        yield {key: value for key, value in record.items() if key != name}
        yield from ({**record, name: value} for value in VALUES)


def problems_of(path, family):
    """Read a file, and return the raw exception if there is one."""
    try:
        tasks = make_tasks({"name": family, "path": str(path)}, "train")
        [str(tasks[index]) for index in range(len(tasks))]
    except ReasonEnvsError as error:
        return [] if path.name in str(error) and len(str(error)) < 2000 else [str(error)]
    except Exception as error:  # noqa: BLE001
        return [repr(error)[:200]]
    return []


@pytest.mark.parametrize("family", RECORDS)
def test_damaged_task_files_raise_own_errors(family, tmp_path):
    raw = []
    for suffix in (".json", ".jsonl", ".json.gz", ".jsonl.gz"):
        for damage, change in {"none": lambda path: None, **DAMAGES}.items():
            path = tmp_path / f"{damage}{suffix}"
            text = json.dumps([RECORDS[family]] if ".jsonl" not in suffix else RECORDS[family]) + "\n"
            path.write_bytes(gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode())
            change(path)
            raw += [(damage, suffix, problem) for problem in problems_of(path, family)]
            assert damage != "none" or len(make_tasks({"name": family, "path": str(path)}, "train")) == 1
    for number, record in enumerate(hurt_records(RECORDS[family])):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(f"{json.dumps(RECORDS[family])}\n{json.dumps(record)}\n")
        raw += [(f"{record!r:.100}", problem) for problem in problems_of(path, family)]
    assert raw == []


DEEP = "-" * 50_000 + "1"
TESTS = {
    "mbpp": {"test_list": ["assert f() == 1"], "code": "def f(): return 1"},
    "humaneval": {
        "prompt": "def f():\n",
        "canonical_solution": "    return 1",
        "test": "def check(c):\n    assert c() == 1",
        "entry_point": "f",
    },
    "stdio": {"inputs": ["1"], "outputs": ["1"], "solution": "print(1)"},
}


@pytest.mark.parametrize("name", TESTS)
def test_damaged_tests_of_a_task_raise_own_errors(name):
    read_tests(TESTS[name])
    raw = []
    for field in TESTS[name]:
        for value in [
            *VALUES,
            "assert f(",
            ["assert f("],
            [5],
            [None, "1"],
            "\ud800",
            ["\ud800"],
            ["1", "2"],
            DEEP,
            [DEEP],
        ]:
            try:
                tests = read_tests({**TESTS[name], field: value})
                isinstance(tests, UnitTests) and split(tests)
            except ReasonEnvsError:
                continue
            except Exception as error:  # noqa: BLE001
                raw.append((field, f"{value!r:.50}", repr(error)[:100]))
    assert raw == []
