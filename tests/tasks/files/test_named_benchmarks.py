"""Named data sets: fields, splits and records that are left out."""

import json
from pathlib import Path

import pytest

from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards.code.tests import StdioTests, read_tests
from reason_envs.tasks import family, make, names
from reason_envs.tasks.task_list import ListTaskSet

datasets = pytest.importorskip("datasets")

MATH = {
    "polaris": {"problem": "P {i}?", "answer": "{i}", "difficulty": "3/8"},
    "AIME24": {"Problem": "P {i}?", "Answer": "{i}", "ID": "x"},
    "AIME25": {"problem": "P {i}?", "answer": "{i}"},
    "OlympiadBench": {"question": "P {i}?", "final_answer": ["${i}$"]},
}
"""A record of each data set, as on the hub."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def filled(value: object, i: int) -> object:
    if isinstance(value, list):
        return [filled(item, i) for item in value]
    return str(value).replace("{i}", str(i))


def saved(folder: Path, rows: list[dict], split: str = "train") -> str:
    datasets.DatasetDict({split: datasets.Dataset.from_list(rows)}).save_to_disk(folder)
    return str(folder)


@pytest.mark.parametrize("name", MATH)
def test_named_benchmarks_read_questions_and_answers(name: str, tmp_path: Path) -> None:
    rows = [{key: filled(value, i) for key, value in MATH[name].items()} for i in range(40)]
    path = saved(tmp_path / "copy", rows)
    spec = {"name": name, "path": path, **({"holdout": 0.2} if name == "polaris" else {})}
    tasks = make(spec, "test")
    assert all((t.question, t.answer) == (f"P {t.answer}?", t.question[2:-1]) for t in tasks)
    assert len({t.id for t in tasks}) == len(tasks)
    if name == "polaris":
        train = make(spec)
        assert len(make({"name": name, "path": path})) == 40
        assert not {t.question for t in train} & {t.question for t in tasks}
        assert len(train) + len(tasks) == 40
        assert train[0].metadata == {"difficulty": "3/8"}
    else:
        assert len(tasks) == 40, "a benchmark is not split"
        with pytest.raises(ReasonEnvsError, match=f"{name} is a benchmark.*eval_set={name}"):
            make({"name": name, "path": path})


def test_olympiad_bench_leaves_out_answers_with_several_parts(tmp_path: Path) -> None:
    rows = [{"question": "a", "final_answer": ["$1$", "$2$"]}, {"question": "b", "final_answer": ["$3$"]}]
    tasks = make({"name": "OlympiadBench", "path": saved(tmp_path / "copy", rows)}, "test")
    assert isinstance(tasks, ListTaskSet)
    assert ([t.answer for t in tasks], tasks.left_out["without an answer"]) == (["3"], 1)


def contest(description: str, language: int) -> dict:
    return {
        "description": description,
        "public_tests": {"input": ["1\n"], "output": ["2\n"]},
        "private_tests": {"input": ["3\n"], "output": ["4\n"]},
        "solutions": {"language": [2, language], "solution": ["int main(){}", "print(int(input()) + 1)"]},
    }


def test_code_contests_have_programs_and_tests(tmp_path: Path) -> None:
    rows = [contest("Add one.", 3), contest("In C++ only.", 2)]
    path = tmp_path / "both"
    split = datasets.Dataset.from_list(rows)
    datasets.DatasetDict({"train": split, "valid": split, "test": split}).save_to_disk(path)
    tasks = make({"name": "code_contests", "path": str(path)})
    assert isinstance(tasks, ListTaskSet)
    assert (len(tasks), tasks.left_out["without an answer"]) == (1, 1)
    tests = read_tests({**tasks[0].metadata, "solution": tasks[0].answer})
    assert tests == StdioTests((("1\n", "2\n"), ("3\n", "4\n")), "print(int(input()) + 1)")


def apps(level: str, **tests: object) -> dict:
    solutions = json.dumps(["print(input())"])
    return {"question": "Echo.", "solutions": solutions, "input_output": json.dumps(tests), "difficulty": level}


def test_apps_levels_read_their_records(tmp_path: Path) -> None:
    rows = [
        apps("interview", inputs=["a\n"], outputs=["a\n"]),
        apps("competition", inputs=["b\n"], outputs=["b\n"]),
        apps("interview", inputs=[[1]], outputs=[1], fn_name="echo"),
        apps("interview", inputs=[["1", "2"]], outputs=["1"]),
        {**apps("interview"), "solutions": "", "input_output": ""},
    ]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tasks = make({"name": "interview", "path": str(tmp_path)}, "test")
    assert isinstance(tasks, ListTaskSet)
    assert (len(tasks), tasks.left_out["without an answer"]) == (1, 3)
    assert (tasks[0].answer, tasks[0].metadata) == ("print(input())", {"inputs": ["a\n"], "outputs": ["a\n"]})
    assert len(make({"name": "competition", "path": str(tmp_path)}, "test")) == 1
    with pytest.raises(ReasonEnvsError, match=r"No problem of introductory is in the test split"):
        make({"name": "introductory", "path": str(tmp_path)}, "test")
    with pytest.raises(ReasonEnvsError, match=r"The file .*train\.jsonl does not exist"):
        make({"name": "interview", "path": str(tmp_path)})


def test_named_benchmarks_refuse_copies_with_other_fields(tmp_path: Path) -> None:
    path = saved(tmp_path / "copy", [{"question": "a", "answer": "1"}])
    with pytest.raises(ReasonEnvsError, match=r"no field 'problem', only 'question', 'answer'"):
        make({"name": "polaris", "path": path})


def test_named_benchmarks_without_a_network_advise_a_local_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(path: str, *_: object, **__: object) -> None:
        raise ConnectionError(f"Couldn't reach {path!r} on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    for name in ("polaris", "AIME24", "AIME25", "OlympiadBench", "code_contests", "interview"):
        with pytest.raises(ReasonEnvsError, match=r"the hub cannot be reached.*local copy"):
            make(name, "test")


def test_named_benchmarks_have_summaries_and_two_options() -> None:
    for name in [*MATH, "code_contests", "introductory", "interview", "competition"]:
        assert name in names()
        assert family(name).summary
        assert set(family(name).options) - {"holdout"} == {"path", "max_samples"}
