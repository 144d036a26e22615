import json
import re
from pathlib import Path

import pytest

from reason_envs.tasks import ListTaskSet, Task, make
from reason_envs.tasks.__main__ import main
from reason_envs.tasks.base import split_of
from reason_envs.tasks.report import answer_kind, overlap, stats

DATA = Path(__file__).parents[1] / "data" / "tasks"


def test_list_prints_every_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"json", "gsm8k", "math", "hub", "mixture", "chain_sum"} <= {line.split()[0] for line in lines}
    assert lines.index("== built-in families") < lines.index("== generators of reasoning-gym")


def test_list_of_one_family_prints_options_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "gsm8k"]) == 0
    output = capsys.readouterr().out
    assert "(required)" in output
    assert "skip_missing                 False" in output


def test_show_prints_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["show", "json", f"path={DATA / 'two_part.jsonl'}", "question_field=[Body,Question]"]
    assert main([*command, "answer_field=Answer", "--count", "1", "--split", "train"]) == 0
    output = capsys.readouterr().out
    assert "2 tasks" in output
    assert "How big is each group?" in output
    assert "-> 145" in output
    assert "pears" not in output


def test_stats_prints_sources_and_overlap(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "mixture", "parts.chain_sum=3", "parts.gcd=1", "size=40"]) == 0
    output = capsys.readouterr().out
    assert "chain_sum 30, gcd 10" in output
    assert "overlap of train and test: 0" in output


def test_show_reports_an_empty_split_and_continues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = next(f"q{i}" for i in range(99) if split_of(f"q{i}") == "train")
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": question, "answer": "1"}))
    assert main(["show", "json", f"path={tmp_path / 'a.jsonl'}", "holdout=0.2"]) == 0
    captured = capsys.readouterr()
    assert "1 tasks" in captured.out
    assert "no test split: No problem of" in captured.err


@pytest.mark.parametrize(
    "tests",
    [{"inputs": ["1"], "outputs": ["2"]}, {"test_list": ["assert f(1) == 2"]}, {"tests": {}}, {"entry_point": "f"}],
)
def test_stats_count_answers_with_tests_as_programs(tests: dict[str, object]) -> None:
    problems = [Task("a", "Add one.", "print(int(input()) + 1)", tests), Task("b", "What is 1 + 1?", "2")]
    assert stats(ListTaskSet("mine", "train", problems))["answers"] == "program 1, integer 1"


def test_argument_cut_by_the_shell_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "json", "path={train:", "a.jsonl}"]) == 2
    assert "keeps its spaces, as in 'path={train: ...}'." in capsys.readouterr().err


def test_prepare_of_one_file_writes_every_problem_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "json", f"path={DATA / 'answers.json'}", "--output", str(tmp_path)]) == 0
    assert "no test split: the train split has every problem. Set holdout=0.2" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["train.jsonl"]


def test_stats_reports_a_missing_split_and_continues(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "math", f"path={DATA / 'math'}"]) == 0
    captured = capsys.readouterr()
    assert "expression 2" in captured.out
    assert "no train split" in captured.err


def test_prepare_writes_files_that_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "chain_sum", "size=20", "--output", str(tmp_path / "out")]) == 0
    original, again = (
        make({"name": "chain_sum", "size": 20}, "test"),
        make({"name": "json", "path": tmp_path / "out"}, "test"),
    )
    assert [(t.question, t.answer) for t in original] == [(t.question, t.answer) for t in again]
    first = json.loads((tmp_path / "out" / "train.jsonl").read_text().splitlines()[0])
    assert first["id"] == "chain_sum/train/0/0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "chain_summ"], "Did you mean 'chain_sum'"),
        (["show", "chain_sum", "min_terms"], "write key=value"),
        (["show", "chain_sum", "x=[1"], "quote the whole argument once"),
        (["show", "chain_sum", "x=}"], "Cannot read the options"),
        (["stats", "gsm8k"], "path must be given"),
        (["stats", "math", f"path={DATA}"], "It contains answers.json"),
        (["show", "json", "path=/nowhere.jsonl"], "The file /nowhere.jsonl does not exist"),
    ],
)
def test_user_errors_have_no_traceback(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_stats_of_a_known_file() -> None:
    tasks = make({"name": "json", "path": DATA / "answers.json"})
    found = stats(tasks)
    assert (found["tasks"], found["duplicates"], found["left out (no answer)"]) == ("3", "0", "0")
    assert found["answers"] == "integer 2, expression 1"
    assert re.fullmatch(r"mean 15\.7, median \d+, maximum 18", found["question characters"])
    assert overlap(tasks, tasks) == 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("-7", "integer"), ("1,000", "integer"), ("0.5", "decimal"), (r"\pi", "expression"), ("x+1", "expression"),
     ("yes", "text"), ("", "none")],
)  # fmt: skip
def test_answer_kind(answer: str, kind: str) -> None:
    assert answer_kind(answer) == kind
