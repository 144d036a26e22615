import subprocess
import sys
from importlib.metadata import EntryPoint

import pandas
import pytest
from datasets import Dataset

import reason_envs
from reason_envs import registry as plugins
from reason_envs.errors import REQUIRED, ReasonEnvsError
from reason_envs.tasks import Task, TaskSet, family, make, names, register
from reason_envs.tasks.base import Split
from reason_envs.tasks.registry import TASKS
from reason_envs.tasks.task_list import ListTaskSet


def count_up(split: Split, *, to: int, start: int = 1) -> TaskSet:
    """Count from one number to another."""
    return ListTaskSet("up", split, [Task(str(i), f"After {i}?", str(i + 1)) for i in range(start, to)])


def add_family() -> None:
    """Function of an entry point of another package."""
    register("counted", count_up)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TASKS, "parts", dict(TASKS.parts))


def test_make_returns_a_task_set_unchanged() -> None:
    tasks = count_up("train", to=3)
    assert make(tasks) is tasks


@pytest.mark.parametrize("form", [list, tuple, Dataset.from_list, pandas.DataFrame], ids=lambda form: form.__name__)
def test_make_accepts_records_in_memory(form) -> None:
    records = [{"question": f"{n} + 1?", "answer": str(n + 1), "level": n} for n in range(3)]
    tasks = make(form(records))
    assert [(task.question, task.answer, task.metadata["level"]) for task in tasks] == [
        (f"{n} + 1?", str(n + 1), n) for n in range(3)
    ]
    env = reason_envs.make_environment("single_turn_math", tasks=form(records))
    assert len(env.tasks) == 3


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "No problem of tasks is in the train split"),
        ([3], "tasks, record 1: must be a mapping with a question and an answer, not 3"),
        ([{"question": "1"}], r"tasks, record 1.*answer"),
        (3, r"3 \(int\) does not choose the task family"),
    ],
)
def test_make_refuses_records_that_are_not_problems(records, message) -> None:
    with pytest.raises(ReasonEnvsError, match=message):
        make(records)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_json_family_reads_tables(suffix, tmp_path) -> None:
    frame = pandas.DataFrame({"question": ["1, 2 and?", 'Say "x"', "é\n?"], "answer": ["3", "007", "1.50"]})
    path = tmp_path / f"problems.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    tasks = make({"name": "json", "path": str(path)})
    assert [(task.question, task.answer) for task in tasks] == list(frame.itertuples(index=False, name=None))
    path.write_bytes(b"\xff\xfe\x00broken")
    with pytest.raises(ReasonEnvsError, match=r"Cannot read .*problems"):
        make({"name": "json", "path": str(path)})


def test_register_adds_a_family() -> None:
    register("count_up", count_up)
    assert "count_up" in names()
    assert [task.answer for task in make({"name": "count_up", "to": 4})] == ["2", "3", "4"]
    assert family("count_up").summary == "Count from one number to another."
    assert family("count_up").options == {"to": REQUIRED, "start": 1}
    with pytest.raises(ReasonEnvsError, match="to must be given: task family 'count_up'"):
        make("count_up")
    with pytest.raises(ReasonEnvsError, match="registered already"):
        register("count_up", make)


def test_entry_points_add_families(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("theirs", f"{__name__}:add_family", TASKS.group)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == point.group else [])
    monkeypatch.setattr(plugins, "_loaded", set())
    assert "counted" in names()
    assert len(make({"name": "counted", "to": 5})) == 4


@pytest.mark.parametrize(
    ("spec", "split", "message"),
    [
        ("chain_summ", "train", "Unknown task family 'chain_summ'. Did you mean 'chain_sum'"),
        ("chain_sum", "validation", "Unknown split 'validation'"),
        (__file__, "train", "is not a task family; for a file write {name: json"),
        ({"path": "a.json"}, "train", r"needs the key 'name'.* It has \['path'\]"),
        (3, "train", r"3 \(int\) does not choose the task family"),
    ],
)
def test_make_refuses_bad_specs(spec: object, split: str, message: str) -> None:
    with pytest.raises(ReasonEnvsError, match=message):
        make(spec, split)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"name": "plan_path", "rows": "abc"},
            r"rows='abc' must be of type int, such as 5 \(task family",
        ),
        ({"name": "plan_path", "rows": 2.5}, "rows=2.5 must be of type int, such as 5"),
        ({"name": "sokoban", "boxes": None}, "boxes=None must be of type int"),
        ({"name": "json", "path": 5}, r"path=5 must be of type str \| os.PathLike"),
        ({"name": "workflow_problems", "ratios": 3}, "ratios=3 must be of type Mapping"),
        ({"name": "composite", "datasets": 3}, r"datasets=3 must be a list such as \[{name: gcd, weight: 2}\]"),
        ({"name": "composite", "datasets": ["gcd"]}, r"datasets=\['gcd'\] must be a list"),
        ({"name": "count_up", "to": "3"}, r"to='3' must be of type int \(task family 'count_up'\)"),
    ],
)
def test_make_refuses_values_of_the_wrong_type(spec: dict[str, object], message: str) -> None:
    register("count_up", count_up)
    with pytest.raises(ReasonEnvsError, match=message):
        make(spec)


def test_make_accepts_values_whose_annotations_cannot_be_checked() -> None:
    class Odd:
        pass

    def unresolved(split: str, size: "NoSuchName" = 1, odd: Odd | None = None, plain=3) -> TaskSet:  # type: ignore[no-untyped-def, name-defined]  # noqa: F821
        return ListTaskSet("odd", split, [Task(str(plain), "q", "a")])  # type: ignore[arg-type]

    register("odd", unresolved)
    assert make({"name": "odd", "size": "any", "odd": Odd(), "plain": "x"})[0].id == "x"
    register("ints", lambda split, walls=0.5: ListTaskSet("ints", split, [Task("1", "q", "a")]))
    assert len(make({"name": "plan_path", "walls": 0, "size": 3})) == len(make({"name": "ints", "walls": 1})) + 2


def test_import_loads_no_heavy_package() -> None:
    code = (
        "import sys, reason_envs.tasks as t\n"
        "t.make({'name': 'json', 'path': sys.argv[1]})\n"
        "heavy = {'reasoning_gym', 'datasets', 'torch', 'transformers'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    file = str(__import__("pathlib").Path(__file__).parents[1] / "data" / "tasks" / "answers.json")
    result = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
