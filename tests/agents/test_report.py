"""The page of a run: what it says, and that nothing a model wrote becomes part of it. A browser opens it elsewhere."""

import json
import re
from html.parser import HTMLParser

import pytest
import report_toys

from agents.report import write_report
from agents.report.__main__ import main
from agents.report.data import MOST_POINTS, MOST_RECORDINGS, run_data
from reason_envs.errors import ReasonEnvsError


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return report_toys.math_run(tmp_path_factory.mktemp("runs") / "math<i>")


class Elements(HTMLParser):
    """The elements of a page, and the text in its scripts."""

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


def test_nothing_a_model_wrote_becomes_markup(hostile, tmp_path):
    page = Elements(page_of(hostile, output=tmp_path / "report.html"))
    head, body = ["meta"] * 4 + ["link", "title", "style"], ["main", "noscript", "script", "script"]
    assert [tag for tag, _ in page.tags] == ["html", "head", *head, "body", *body]
    data = json.loads(page.scripts[0])
    episodes = data["runs"][0]["recordings"][0]["episodes"]
    assert {turn["response"] for episode in episodes for turn in episode["turns"]} == {report_toys.HOSTILE}
    assert page.tags[-2][1] == {"type": "application/json", "id": "data"}


def test_the_page_needs_nothing_else(hostile, tmp_path):
    page = page_of(hostile, output=tmp_path / "report.html")
    assert set(re.findall(r"\w+://[^\s\"'`]+", page)) == {"http://www.w3.org/2000/svg"}
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert 'name="viewport" content="width=device-width' in page


def test_figures_of_a_run(hostile):
    data = run_data(hostile)
    assert data["name"] == "math<i>"
    assert data["facts"] == {
        "env": "toy",
        "algo": "scripted",
        "seed": 0,
        "steps": 30,
        "seconds": 15.0,
        "tokens": 3000.0,
    }
    first, last = data["evaluations"]
    assert (first["step"], first["accuracy"], last["step"], last["accuracy"]) == (0, 0.0, 30, 1.0)
    assert {"accuracy_low", "accuracy_high", "tasks", "pass_at_n", "mean_tokens"} <= last.keys()
    assert data["gain"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "tasks": 6, "from": 0, "to": 30}
    assert data["metrics"]["reward"] == [list(range(1, 31)), pytest.approx([i / 30 for i in range(1, 31)], rel=1e-5)]
    assert data["frontier"] == []


def test_evaluations_and_frontiers_that_lie_in_the_folder_are_shown(tmp_path):
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


def test_long_runs_are_thinned_out(tmp_path):
    rows = [{"step": step, "reward": 1 / 3, "strange": None} for step in range(1, 3501)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "validate").mkdir()
    for step in range(0, 3600, 100):
        (tmp_path / "validate" / f"step_{step}.json").write_text(json.dumps({"step": step, "correct": [0, 1]}))
    data = run_data(tmp_path)
    steps, values = data["metrics"]["reward"]
    assert len(steps) == len(values) <= MOST_POINTS + 1
    assert (steps[0], steps[-1]) == (1, 3500)
    assert data["metrics"]["strange"] == [[], []]
    shown = [recording["step"] for recording in data["recordings"]]
    assert len(shown) == MOST_RECORDINGS
    assert (shown[0], shown[-1]) == (0, 3500)


def test_the_gain_wants_the_same_problems(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "reward": 1.0}\n')
    (tmp_path / "validate").mkdir()
    for step, correct in ((0, [0.0, 0.0]), (9, [1.0, 0.0, 1.0])):
        (tmp_path / "validate" / f"step_{step}.json").write_text(json.dumps({"step": step, "correct": correct}))
    assert run_data(tmp_path)["gain"] is None


def test_the_command_says_where_the_page_is(hostile, tmp_path, capsys):
    main([str(hostile)])
    assert "report.html" in capsys.readouterr().out
    assert (hostile / "report.html").exists()
    main([str(hostile), str(hostile)])
    assert (hostile.parent / "comparison.html").read_text().count('"recordings"') == 2
    main([str(hostile), "--output", str(tmp_path / "deep" / "page.html")])
    assert (tmp_path / "deep" / "page.html").exists()


def test_what_is_no_run_is_refused(tmp_path, capsys):
    with pytest.raises(ReasonEnvsError, match=r"no metrics\.jsonl"):
        run_data(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path)])
    assert ended.value.code == 2
    assert "no run folder" in capsys.readouterr().err
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "reward": 1.0}\n')
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ReasonEnvsError, match=r"broken\.json is no JSON"):
        run_data(tmp_path)
    (tmp_path / "broken.json").unlink()
    (tmp_path / "file").write_text("")
    with pytest.raises(ReasonEnvsError, match="cannot be written"):
        write_report([tmp_path], tmp_path / "file" / "page.html")
