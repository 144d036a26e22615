"""Generated families for workflows, and files in the formats of public benchmarks."""

import asyncio
import json
from pathlib import Path

import pytest

from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards.code.grade import CodeGrader
from reason_envs.rewards.code.tests import read_tests
from reason_envs.rewards.qa import f1
from reason_envs.tasks import make, split_of
from reason_envs.tasks.__main__ import main

FIXTURES = Path(__file__).parents[2] / "data" / "tasks"
FAMILIES = ("fact_qa", "one_line_code")


def fixture(name):
    return list(make({"name": name, "path": {"test": FIXTURES / f"{name}.jsonl"}}, "test"))


@pytest.mark.parametrize("name", FAMILIES)
def test_generated_tasks_are_functions_of_seed_and_index(name):
    first, again, other = (make({"name": name, "size": 40, "seed": seed}, "train") for seed in (1, 1, 2))
    assert [first[i] for i in (3, 1)] == [again[i] for i in (3, 1)]
    assert [task.question for task in first] != [task.question for task in other]
    assert len({task.id for task in first}) == 40
    with pytest.raises(IndexError):
        first[40]


@pytest.mark.parametrize("name", FAMILIES)
def test_generated_splits_are_disjoint(name):
    train, test = (make({"name": name, "size": 300}, split) for split in ("train", "test"))
    assert all(split_of(task.question) == "train" for task in train)
    assert all(split_of(task.question) == "test" for task in test)


def test_fact_qa_passages_have_the_answer():
    for task in make({"name": "fact_qa", "size": 200}, "test"):
        assert task.metadata["fact"] in task.metadata["context"] in task.question
        assert f1(task.metadata["fact"], [task.answer]) > 0
        assert f1(task.metadata["context"], [task.answer]) < 0.4, "a copy of the passage earns no tier"


def test_one_line_code_passes_its_tests_and_changed_code_fails():
    grader = CodeGrader("monty")

    async def grade(code, task):
        return await grader.grade(code, read_tests(task.metadata["tests"]))

    for task in make({"name": "one_line_code", "size": 30}, "test"):
        assert asyncio.run(grade(task.answer, task)).correct
        assert not asyncio.run(grade(task.answer + " + 1", task)).correct
        assert set(task.metadata["public_tests"]) < set(task.metadata["tests"]["test_list"])


def test_bad_sizes_are_refused():
    with pytest.raises(ReasonEnvsError, match=r"min_facts=4 must lie in \[1, max_facts=3\]"):
        make({"name": "fact_qa", "min_facts": 4, "max_facts": 3})
    with pytest.raises(ReasonEnvsError, match="size=0 must be a whole number"):
        make({"name": "one_line_code", "size": 0})


def test_workflow_problems_have_exact_ratios():
    tasks = make({"name": "workflow_problems", "size": 200}, "train")
    sources = [task.metadata["source"] for task in tasks]
    assert [sources.count(domain) for domain in ("math", "qa", "code")] == [80, 60, 60]
    only = make({"name": "workflow_problems", "size": 10, "ratios": {"qa": 1}}, "test")
    assert {task.metadata["source"] for task in only} == {"qa"}


def test_hotpotqa_puts_the_context_before_the_question():
    with_context, hub, without = fixture("hotpotqa")
    assert with_context.question == (
        "Lime Hall: Lime Hall is a house. It stands in Arden.\nArden: Arden is a town in Wessex.\n\n"
        "In which region is the town where Lime Hall stands?"
    )
    assert (with_context.answer, with_context.metadata["answers"]) == ("Wessex", ["Wessex"])
    assert with_context.metadata["domain"] == "qa"
    assert hub.question.startswith("Arden: Arden is a town.\n\nWhat is")
    assert without.question == "Is a whale a fish?"


def test_drop_keeps_every_accepted_answer():
    official, prompt = fixture("drop")
    assert official.question == "The Reds scored 14 points and the Blues 3.\n\nHow many points did the Reds score?"
    assert official.metadata["answers"] == ["14", "14 points"]
    assert prompt.question == "The Reds won by 11.\n\nWho won?"
    assert (prompt.answer, prompt.metadata["answers"]) == ("Reds", ["Reds", "the Reds"])


def test_humaneval_examples_are_public_tests():
    (task,) = fixture("humaneval")
    assert task.metadata["public_tests"] == ["assert double(2) == 4"]
    assert (task.metadata["entry_point"], task.metadata["domain"]) == ("double", "code")
    assert "return 2 * x" not in task.question
    assert read_tests(task.metadata["tests"]).entry_point == "double"


def test_mbpp_first_assertion_is_public():
    (task,) = fixture("mbpp")
    assert task.question == "Write a function to double a number.\nassert double(2) == 4"
    assert (task.metadata["public_tests"], task.metadata["entry_point"]) == (["assert double(2) == 4"], "double")


@pytest.mark.parametrize(
    ("name", "record", "message"),
    [
        ("hotpotqa", {"question": "?"}, "'answer' is missing"),
        ("drop", {"passage": "p", "question": "?", "answers_spans": {"spans": []}}, "no answer"),
        ("humaneval", {"prompt": "def f():", "entry_point": "f"}, "'test' is missing"),
        ("mbpp", {"prompt": "Write."}, "'test_list'"),
        ("mbpp", {"prompt": "Write.", "code": "def g(): pass", "test_list": ["assert f() == 1"]}, "call a function"),
        (
            "mbpp",
            {"prompt": "Write.", "code": "-" * 50_000 + "1", "test_list": ["assert f() == 1"]},
            "not valid Python",
        ),
    ],
)
def test_bad_records_are_named_with_file_and_line(tmp_path, name, record, message):
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps(record) + "\n")
    with pytest.raises(ReasonEnvsError, match=rf"bad.jsonl, line 1: .*{message}"):
        make({"name": name, "path": {"test": file}}, "test")


def test_prepare_keeps_metadata(tmp_path, capsys):
    assert main(["prepare", "workflow_problems", "size=20", "--output", str(tmp_path)]) == 0
    written = make({"name": "workflow_problems", "size": 20}, "train")
    read = make({"name": "json", "path": str(tmp_path)}, "train")
    assert [task.question for task in read] == [task.question for task in written]
    assert [task.metadata["source"] for task in read] == [task.metadata["source"] for task in written]
    code = next(task for task in read if task.metadata["source"] == "code")
    assert read_tests(code.metadata["tests"]).entry_point == code.metadata["entry_point"]


@pytest.mark.parametrize(
    ("name", "file", "count"),
    [
        ("hotpotqa", "hotpotqa/dev_simplified.json", 7405),
        ("humaneval", "humaneval/HumanEval.jsonl.gz", 164),
        ("mbpp", "mbpp/sanitized_test.jsonl", 257),
    ],
)
def test_public_benchmarks_load(real_data, name, file, count):
    tasks = make({"name": name, "path": {"test": real_data / file}}, "test")
    assert len(tasks) == count
    assert all(task.question and task.answer and task.metadata["domain"] in ("qa", "code") for task in tasks)
