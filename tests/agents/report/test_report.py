"""The page of a run: its data, and that responses never become markup. Another test opens it in a browser."""

import json
import re
from html.parser import HTMLParser

import pytest
import report_toys

from agents.report import write_report
from agents.report.__main__ import main
from agents.report.data import MAX_POINTS, MAX_RECORDINGS, difference, run_data
from reason_envs.errors import ReasonEnvsError


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return report_toys.math_run(tmp_path_factory.mktemp("runs") / "math<i>")


class Elements(HTMLParser):
    """Elements of a page, and the text of its scripts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.scripts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.scripts += [""] * (tag == "script")

    def handle_data(self, data):
        if self.lasttag == "script":
            self.scripts[-1] += data


def page_of(*folders, output):
    write_report(folders, output)
    return output.read_text(encoding="utf-8")


def test_page_shows_responses_as_text(hostile, tmp_path):
    page = Elements(page_of(hostile, output=tmp_path / "report.html"))
    head, body = ["meta"] * 4 + ["link", "title", "style"], ["main", "noscript", "script", "script"]
    assert [tag for tag, _ in page.tags] == ["html", "head", *head, "body", *body]
    data = json.loads(page.scripts[0])
    episodes = data["runs"][0]["recordings"][0]["episodes"]
    assert {turn["response"] for episode in episodes for turn in episode["turns"]} == {report_toys.HOSTILE}
    assert page.tags[-2][1] == {"type": "application/json", "id": "data"}


def test_page_loads_no_other_file(hostile, tmp_path):
    page = page_of(hostile, output=tmp_path / "report.html")
    assert set(re.findall(r"\w+://[^\s\"'`]+", page)) == {"http://www.w3.org/2000/svg"}
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert 'name="viewport" content="width=device-width' in page


def test_run_data_has_known_values(hostile):
    data = run_data(hostile)
    assert data["name"] == "math<i>"
    assert data["facts"] == {
        "env": "toy",
        "algo": "scripted",
        "seed": 0,
        "steps": 30,
        "planned": None,
        "seconds": 15.0,
        "tokens": 3000.0,
    }
    first, last = data["evaluations"]
    assert (first["step"], first["accuracy"], last["step"], last["accuracy"]) == (0, 0.0, 30, 1.0)
    assert {"accuracy_low", "accuracy_high", "tasks", "pass_at_n", "mean_tokens"} <= last.keys()
    assert data["gain"] == {
        "mean": 1.0,
        "low": pytest.approx(0.219, abs=1e-3),
        "high": 1.0,
        "tasks": 6,
        "from": 0,
        "to": 30,
    }
    assert data["metrics"]["reward"] == [list(range(1, 31)), pytest.approx([i / 30 for i in range(1, 31)], rel=1e-5)]
    assert data["frontier"] == []


def test_run_data_includes_results_in_the_folder(tmp_path):
    folder = report_toys.planner_run(tmp_path / "planner")
    point = {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6, "method": "sc"}
    methods = [{"result": {**point, "label": f"sc n={n}", "generated_tokens": 10.0 * n}} for n in (8, 2)]
    (folder / "frontier.json").write_text(json.dumps({"config": {}, "methods": methods}))
    (folder / "validate" / "swapped.json").write_text(json.dumps({"result": {**point, "tasks": 9}, "answers": []}))
    (folder / "validate" / "other.json").write_text("[1]")
    data = run_data(folder)
    assert [(curve["name"], [p["label"] for p in curve["points"]]) for curve in data["frontier"]] == [
        ("sc", ["sc n=2", "sc n=8"])
    ]
    assert data["evaluations"][-1] == {"step": None, "label": "swapped", "tasks": 9} | {
        name: value for name, value in point.items() if name != "method"
    }


def test_run_data_of_a_long_run_has_few_points(tmp_path):
    rows = [{"step": step, "reward": 1 / 3, "strange": None} for step in range(1, 3501)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "validate").mkdir()
    for step in range(0, 3600, 100):
        (tmp_path / "validate" / f"step_{step}.json").write_text(json.dumps({"step": step, "correct": [0, 1]}))
    data = run_data(tmp_path)
    steps, values = data["metrics"]["reward"]
    assert len(steps) == len(values) <= MAX_POINTS + 1
    assert (steps[0], steps[-1]) == (1, 3500)
    assert data["metrics"]["strange"] == [[], []]
    shown = [recording["step"] for recording in data["recordings"]]
    assert len(shown) == MAX_RECORDINGS
    assert (shown[0], shown[-1]) == (0, 3500)


def recording(step, *correct, tasks=()):
    return {"step": step, "correct": [float(c) for c in correct], "episodes": [{"task": task} for task in tasks]}


def test_difference_has_an_interval_with_a_width():
    none, all_of_them = recording(0, *[0] * 20), recording(9, *[1] * 20)
    assert difference(none, all_of_them) == {"mean": 1.0, "low": pytest.approx(0.678, abs=1e-3), "high": 1.0} | {
        "tasks": 20,
        "from": 0,
        "to": 9,
    }
    same = difference(all_of_them, all_of_them)
    assert (same["mean"], same["high"]) == (0.0, pytest.approx(0.161, abs=1e-3))
    assert same["low"] == -same["high"]


def test_difference_of_other_problems_is_none():
    first = recording(0, 0, 1, tasks=["a", "b"])
    assert difference(first, recording(9, 1, 1, tasks=["a"]))["mean"] == 0.5
    assert difference(first, recording(9, 1, 1, tasks=["a", "c"])) is None
    assert difference(first, recording(9, 1, 1, 1)) is None


def test_report_compares_each_run_with_the_first(hostile, tmp_path):
    other = report_toys.petting_run(tmp_path / "petting")
    again = report_toys.math_run(tmp_path / "math<i>")
    page = Elements(page_of(hostile, other, again, output=tmp_path / "page.html"))
    first, second, third = json.loads(page.scripts[0])["runs"]
    assert "versus" not in first
    assert second["versus"] is None
    assert third["versus"]["mean"] == 0.0
    assert [run["name"].rpartition("/")[2] for run in (first, third)] == ["math<i>", "math<i>"]
    assert first["name"] != third["name"]
    assert first["config"] == {"env.name": "toy", "algo.name": "scripted", "seed": "0"}


def test_run_data_of_an_interrupted_run(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": null, "reward": 1.0}\n{"step": 2, "loss": null')
    (tmp_path / "config.yaml").write_text("")
    data = run_data(tmp_path)
    assert data["broken"] == {"loss": 1}
    assert (data["facts"]["steps"], data["gain"], data["config"]) == (1, None, {})
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "train.log").write_text("")
    with pytest.raises(ReasonEnvsError, match=r"ended before its first metrics: see train\.log"):
        run_data(tmp_path)


def test_gain_of_other_problems_is_none(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "reward": 1.0}\n')
    (tmp_path / "validate").mkdir()
    for step, correct in ((0, [0.0, 0.0]), (9, [1.0, 0.0, 1.0])):
        (tmp_path / "validate" / f"step_{step}.json").write_text(json.dumps({"step": step, "correct": correct}))
    assert run_data(tmp_path)["gain"] is None


def test_command_prints_the_path_of_the_page(hostile, tmp_path, capsys):
    main([str(hostile)])
    assert "report.html" in capsys.readouterr().out
    assert (hostile / "report.html").exists()
    main([str(hostile), str(hostile)])
    assert (hostile.parent / "comparison.html").read_text().count('"recordings"') == 2
    main([str(hostile), "--output", str(tmp_path / "deep" / "page.html")])
    assert (tmp_path / "deep" / "page.html").exists()


def test_invalid_folders_are_errors(tmp_path, capsys):
    with pytest.raises(ReasonEnvsError, match=r"metrics\.jsonl is missing"):
        run_data(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path)])
    assert ended.value.code == 2
    assert "is not a run folder" in capsys.readouterr().err
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "reward": 1.0}\n')
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ReasonEnvsError, match=r"broken\.json cannot be used .JSONDecodeError"):
        run_data(tmp_path)
    (tmp_path / "broken.json").unlink()
    (tmp_path / "file").write_text("")
    with pytest.raises(ReasonEnvsError, match="cannot be written"):
        write_report([tmp_path], tmp_path / "file" / "page.html")
