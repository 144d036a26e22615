"""The metrics file and the tables that are written from it."""

import json
import math

import pytest

from agents.tracking.metrics_file import SHOWN, MetricsFile, final_table, series, summary_header, summary_line
from reason_envs.errors import ReasonEnvsError


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def write(path, steps, value=1.0):
    file = MetricsFile(path)
    for step in steps:
        file.append(step, {"reward": value})
    return file


def test_metrics_file_holds_one_object_per_line(path):
    file = write(path, [1, 2])
    file.append(3, {"kl": 0.1 + 0.2})
    assert lines(path) == [{"step": 1, "reward": 1.0}, {"step": 2, "reward": 1.0}, {"step": 3, "kl": 0.1 + 0.2}]
    assert series(file.rows, "reward") == ([1, 2], [1.0, 1.0])


def test_append_writes_null_and_warns_if_not_finite(path, caplog):
    MetricsFile(path).append(4, {"kl": math.inf, "loss": math.nan, "reward": 0.0})
    assert lines(path) == [{"step": 4, "kl": None, "loss": None, "reward": 0.0}]
    assert "step 4: kl is inf" in caplog.text
    assert "step 4: loss is nan" in caplog.text


def test_keep_until_deletes_later_and_incomplete_lines(path):
    write(path, [1, 2, 3])
    with path.open("a") as file:
        file.write('{"step": 4, "rew')
    resumed = MetricsFile(path)
    resumed.keep_until(2)
    resumed.append(3, {"reward": 9.0})
    assert lines(path) == resumed.rows == [{"step": s, "reward": r} for s, r in ((1, 1.0), (2, 1.0), (3, 9.0))]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_keep_until_deletes_a_separate_evaluation_at_the_step(path):
    file = MetricsFile(path)
    file.append(0, {"eval/accuracy": 0.1})
    file.append(1, {"reward": 1.0, "eval/accuracy": 0.2})
    file.append(1, {"eval/accuracy": 0.2, "eval/greedy_accuracy": 0.3})
    file.keep_until(1)
    assert lines(path) == [{"step": 0, "eval/accuracy": 0.1}, {"step": 1, "reward": 1.0, "eval/accuracy": 0.2}]
    file.keep_until(0)
    assert lines(path) == []


def test_malformed_line_error_gives_its_number(path):
    path.write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(ReasonEnvsError, match="line 2"):
        MetricsFile(path).keep_until(2)


def test_summary_lines_are_aligned():
    wide = {metric: 12345.678 for metric, _, _ in SHOWN["summary"]} | {"accuracy": 0.5, "frac_zero_std": None}
    rows = [{"step": 1.0, "accuracy": 0.25}, {"step": 100.0, "eval/accuracy": 1.0, "kl": 0.5}]
    assert {len(summary_line(row)) for row in rows} == {len(summary_header())}
    assert "25.0%" in summary_line(rows[0])
    assert "50.0%" in summary_line(wide)


@pytest.mark.parametrize("steps", [19, 20])
@pytest.mark.parametrize("candidates", [False, True])
def test_final_table_explains_its_metrics(steps, candidates):
    more = {"candidate_reward": 0.5} if candidates else {}
    table = final_table(
        [{"step": step, "reward": float(step), "time/step": 1.0, **more} for step in range(1, steps + 1)]
    )
    assert ("means over the first and the last tenth" in table) == (steps == 20)
    assert ("continues from a selected candidate" in table) == candidates
    first, last = (1.0, 19.0) if steps == 19 else (1.5, 19.5)
    assert table.splitlines()[1].split() == ["reward", f"{first:.3f}", f"{last:.3f}"]
