import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks import Task, family, make, split_of
from reason_envs.tasks.task_list import MissingSplitError, by_hash, first_samples

DATA = Path(__file__).parents[2] / "data" / "tasks"


def whole(name: str, file: str, **options: Any) -> list[Task]:
    return list(make({"name": name, "path": DATA / file, **options}))


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_json_keeps_other_fields_as_metadata() -> None:
    tasks = whole("json", "answers.json")
    assert [task.answer for task in tasks] == ["42", "7", r"\frac{3}{4}"]
    assert tasks[0].question == "What is 6 * 7?"
    assert tasks[0].metadata == {"predicted_answer": "42", "correct": True}
    assert [task.id for task in tasks] == ["json/answers/0", "json/answers/1", "json/answers/2"]


@pytest.mark.parametrize("file", ["targets.jsonl", "targets.jsonl.gz"])
def test_json_reads_numbers_as_answers(file: str) -> None:
    assert [task.answer for task in whole("json", file)] == ["29", "0.75"]


def test_json_joins_several_question_fields() -> None:
    tasks = whole("json", "two_part.jsonl", question_field=["Body", "Question"], answer_field="Answer")
    assert tasks[0].question == "There are 290 bananas in 2 groups.\nHow big is each group?"
    assert [task.answer for task in tasks] == ["145", "6"]
    assert tasks[0].metadata == {"Equation": "( 290.0 / 2.0 )"}


def test_gsm8k_reads_answer_and_solution() -> None:
    train, test = (make({"name": "gsm8k", "path": DATA / "gsm8k"}, split) for split in ("train", "test"))
    assert [task.answer for task in train] == ["72", "2100"]
    assert train[0].metadata["solution"] == "She sold 48/2 = 24 pies.\nIn all 48+24 = 72."
    assert [task.answer for task in test] == ["-2"]


def test_math_reads_the_answer_from_a_field_or_the_last_box() -> None:
    tasks = make({"name": "math", "path": DATA / "math"}, "test")
    assert [task.answer for task in tasks] == [r"\left( 3, \frac{\pi}{2} \right)", r"\frac{1}{4}"]
    assert tasks[0].metadata["level"] == 2


def test_missing_answers_raise_or_are_counted() -> None:
    with pytest.raises(ReasonEnvsError, match=r"proofs.jsonl, line 2: no answer field and no closed .*skip_missing"):
        whole("math", "proofs.jsonl")
    tasks = make({"name": "math", "path": DATA / "proofs.jsonl", "skip_missing": True})
    assert (len(tasks), sum(tasks.left_out.values())) == (1, 1)


def test_blank_answers_are_missing_answers(tmp_path: Path) -> None:
    blank = [{"question": f"q{i}", "answer": answer} for i, answer in enumerate(["5", " ", "\t\n", "$$", r"\text{ }"])]
    file = write(tmp_path / "a.jsonl", blank)
    tasks = make({"name": "json", "path": file, "skip_missing": True})
    assert ([task.answer for task in tasks], sum(tasks.left_out.values())) == (["5"], 4)


def test_files_may_have_a_byte_order_mark_and_whole_surrogate_pairs(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"question": "\\ud83d\\ude00", "answer": "5"}\r\n')
    (task,) = make({"name": "json", "path": tmp_path / "a.jsonl"})
    assert (task.question, task.answer) == ("\U0001f600", "5")


def test_mapping_keeps_official_splits() -> None:
    path = {"train": str(DATA / "answers.json"), "test": str(DATA / "targets.jsonl")}
    assert len(make({"name": "json", "path": path}, "train")) == 3
    assert len(make({"name": "json", "path": path}, "test")) == 2


def test_one_file_is_split_by_hash(tmp_path: Path) -> None:
    file = write(tmp_path / "train.jsonl", [{"question": f"q{i}", "answer": i} for i in range(500)])
    spec = {"name": "json", "path": file, "holdout": 0.2}
    train, test = (list(make(spec, split)) for split in ("train", "test"))
    assert len(train) + len(test) == 500
    assert 60 < len(test) < 140
    assert all(split_of(task.question) == "test" for task in test)
    assert not {task.question for task in train} & {task.question for task in test}


@pytest.mark.parametrize("split", ["train", "test"])
def test_one_file_is_used_whole(split: str) -> None:
    tasks = make({"name": "json", "path": DATA / "answers.json"}, split)
    assert (len(tasks), tasks.disjoint) == (3, False)
    assert make({"name": "json", "path": DATA / "answers.json", "holdout": 0.5}).disjoint


def test_holdout_is_the_share_of_the_test_split(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"question": f"q{i}", "answer": i} for i in range(1000)])
    sizes = [len(make({"name": "json", "path": file, "holdout": share}, "test")) for share in (0.1, 0.5)]
    assert sizes == [pytest.approx(100, abs=30), pytest.approx(500, abs=50)]


def test_left_out_names_the_reasons(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"question": f"q{i}", "answer": i or ""} for i in range(9)])
    tasks = make({"name": "json", "path": file, "skip_missing": True, "max_samples": 5})
    assert (len(tasks), tasks.left_out) == (5, {"without an answer": 1, "beyond max_samples": 3})


def test_file_families_have_summaries_and_common_options() -> None:
    assert family("gsm8k").summary.startswith("GSM8K-style files")
    assert list(family("gsm8k").options) == list(family("json").options)
    assert set(family("math").options) - set(family("json").options) == {"solution_field"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("json", {"path": DATA / "nowhere.json"}, "The file .*nowhere.json does not exist in "),
        ("json", {"path": DATA / "malformed.jsonl"}, r"malformed.jsonl, line 2, cannot be used .JSONDecodeError"),
        ("json", {"path": DATA / "a.xlsx"}, r"format of .*a.xlsx.*\.jsonl"),
        ("json", {"path": DATA / "two_part.jsonl"}, r"line 1: no field 'question' or .*The record has 'Body'"),
        ("json", {"path": DATA / "answers.json", "answer_field": "gold"}, r"record 1: .*'gold'. The record has"),
        ("json", {"path": DATA / "answers.json", "answer_field": "correct"}, "text or a finite number, not True"),
        ("json", {"path": DATA / "answers.json", "split_by": "hash"}, "new name: 'holdout'"),
        (
            "json",
            {"path": DATA / "answers.json", "max_samples": 0},
            "max_samples=0 must be a whole number",
        ),
        ("json", {"path": DATA / "answers.json", "holdout": 1.0}, "at least 0 and below 1"),
        ("gsm8k", {"path": DATA / "gsm8k", "holdout": 0.2}, "single file"),
        ("gsm8k", {"path": DATA / "answers.json"}, "no answer in a field 'answer'"),
        ("math", {"path": DATA / "math"}, "no train split .*contains test.jsonl"),
        ("math", {"path": {"dev": "x"}}, "Unknown split in path 'dev'"),
        ("json", {}, "path must be given: task family 'json'"),
        ("json", {"path": "x", "fields": 1}, "fields=1 is not an option of task family 'json'"),
    ],
)
def test_bad_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ReasonEnvsError, match=message):
        make({"name": name, **options})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "\n\n", "has no records"),
        ("a.json", "", "has no records"),
        ("a.json", "[]", "has no records"),
        ("a.json", '{"question": 1}', "must contain an array of objects, not dict"),
        ("a.json", '{"a": 1}\n{"a": 2}', "Extra data.*must be named .jsonl"),
        ("a.jsonl", '{"question": "a", "answer": "b"}\n[1]', "line 2: a record must be an object, not list"),
        ("a.jsonl", '{"question": "a", "answer": NaN}', "finite number, not nan"),
        ("a.jsonl", '{"question": " ", "answer": "b"}', "'question' is missing or is not text"),
        ("a.jsonl", '{"question": "", "answer": "b"}', "line 1: the question field 'question' is empty"),
        ("a.jsonl", '{"problem": null, "answer": "b"}', "line 1: the question field 'problem' is empty"),
        ("a.jsonl", '{"question": "a", "answer": ""}', r"The record has 'question', 'answer' \(empty\)\."),
        ("a.jsonl", '{"question": "a", "answer": " \\n"}', r"line 1: no answer .*'answer' \(empty\)\. .*skip_missing"),
        ("a.jsonl", '{"question": "a", "answer": "$ $"}', "line 1: no answer"),
        ("a.jsonl", '{"question": "a", "answer": "\\\\boxed{}"}', "line 1: no answer"),
        (
            "a.jsonl",
            '\n{"question": "a\\ud83d", "answer": "b"}',
            r"line 2: half of a surrogate pair, '\\ud83d', is not",
        ),
        ("a.jsonl", '{"question": "a", "answer": "b", "c": [{"\\uDE00": 1}]}', r"line 1: half .* '\\ude00'"),
        ("a.json", '[{"question": "a", "answer": "\\ud83d b"}]', "record 1: half of a surrogate pair"),
        ("a.jsonl.gz", "plain text", "cannot be used"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ReasonEnvsError, match=message):
        make({"name": "json", "path": tmp_path / name})


def test_empty_split_raises(tmp_path: Path) -> None:
    train_only = next(f"q{i}" for i in range(99) if split_of(f"q{i}") == "train")
    file = write(tmp_path / "a.jsonl", [{"question": train_only, "answer": 1}])
    with pytest.raises(MissingSplitError, match=r"No problem of .* is in the test split.*'env.tasks.path={train: "):
        make({"name": "json", "path": file, "holdout": 0.2}, "test")
    assert len(make({"name": "json", "path": {"train": file, "test": file}}, "test")) == 1


@given(st.sets(st.text(min_size=1), min_size=1, max_size=40), st.integers(1, 50), st.integers(1, 50))
def test_first_samples_are_nested_and_ordered(texts: set[str], first: int, second: int) -> None:
    tasks = [Task(str(i), text, "1") for i, text in enumerate(sorted(texts))]
    small, large = (first_samples(tasks, n) for n in sorted((first, second)))
    assert set(small_ids := [task.id for task in small]) <= {task.id for task in large}
    assert small_ids == sorted(small_ids, key=int)
    assert len(small) == min(min(first, second), len(tasks))
    train, test = by_hash(tasks, "train"), by_hash(tasks, "test")
    assert sorted(train + test, key=lambda task: int(task.id)) == tasks


@pytest.mark.parametrize(
    ("spec", "count", "answer"),
    [
        ({"name": "gsm8k", "path": "gsm8k"}, 1319, "18"),
        ({"name": "math", "path": "math500"}, 500, r"\left( 3, \frac{\pi}{2} \right)"),
        ({"name": "math", "path": "aime24"}, 30, "204"),
        ({"name": "json", "path": "amc23"}, 40, "27"),
        ({"name": "math", "path": "minerva_math"}, 272, "1.6"),
        (
            {"name": "json", "path": "svamp", "question_field": ["Body", "Question"], "answer_field": "Answer"},
            1000,
            "145",
        ),
        ({"name": "json", "path": {"test": "mawps/multiarith.jsonl"}}, 600, "39"),
        ({"name": "json", "path": {"test": "hotpotqa/dev_simplified.json"}}, None, "yes"),
    ],
    ids=lambda value: str(value["path"]) if isinstance(value, dict) else None,
)
def test_public_files_load(real_data: Path, spec: dict[str, Any], count: int | None, answer: str) -> None:
    place = spec["path"]
    path = real_data / place if isinstance(place, str) else {split: real_data / file for split, file in place.items()}
    tasks = make({**spec, "path": path}, "test")
    assert count is None or len(tasks) == count
    assert tasks[0].answer == answer
    assert all(task.answer and task.question for task in tasks)
