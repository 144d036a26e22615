"""Files that the tracker writes into a run folder, and its output on the console."""

import json
import logging
import os
import pty
import re
import subprocess
import sys
import termios
import types
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from agents.tracking import tracker as tracking
from agents.tracking.console import Console
from agents.tracking.dashboards import tag
from agents.tracking.metrics_file import SHOWN
from agents.tracking.run_record import read_record, record_start
from agents.tracking.tracker import Tracker, peak_memory_mb
from reason_envs.errors import ReasonEnvsError

HELD_OUT = {"eval/accuracy": 0.5, "eval/accuracy_low": 0.4, "eval/accuracy_high": 0.6, "eval/greedy_accuracy": 0.7}


@pytest.fixture(autouse=True)
def fixed_memory(monkeypatch):
    monkeypatch.setattr(tracking, "peak_memory_mb", lambda: 300.0)


def metrics(step):
    return {"reward": step / 10, "accuracy": 0.25, "kl": 0.001, "loss": -0.01, "tokens": 100.0 * step, "time/step": 2.0}


def record(tracker, steps):
    for step in steps:
        tracker.log(step, metrics(step) | (HELD_OUT if step == 4 else {}))


def text(folder, name):
    return (folder / name).read_text()


def test_tracker_writes_the_files_of_a_run(tmp_path, capsys):
    with Tracker(tmp_path, 8) as tracker:
        tracker.evaluation(0, HELD_OUT)
        record(tracker, range(1, 9))
        tracker.sample(8, "What is 1 + 1?\n\\boxed{2}")
        tracker.note("a note")
        logging.getLogger("reason_envs.anything").info("from elsewhere")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[0] == "curves.png"
    assert names[1].startswith("events.out.tfevents.")
    assert names[2:] == ["metrics.jsonl", "summary.log", "train.log"]
    rows = [json.loads(line) for line in text(tmp_path, "metrics.jsonl").splitlines()]
    assert [row["step"] for row in rows] == list(range(9))
    assert rows[0] == {"step": 0, **HELD_OUT}
    assert rows[4] == {"step": 4, **metrics(4), **HELD_OUT, "memory/peak_mb": 300.0}
    assert len(text(tmp_path, "summary.log").splitlines()) == 1 + 9
    for expected in ("reward=0.3", "\\boxed{2}", "a note", "from elsewhere", "accuracy held out"):
        assert expected in text(tmp_path, "train.log")
    shown = capsys.readouterr().out
    for expected in (
        "held-out after step 0: accuracy 50.0% [40.0%, 60.0%], greedy 70.0%",
        "step 2/8  reward +0.200  accuracy 25.0%  kl 0.0010  loss -0.0100  peak 300 MB  12 s left",
        "\\boxed{2}",
        "a note",
        "8 steps in 16 s without evaluations, 800 tokens generated, peak memory 300 MB",
        f"Next:\n  python -m agents.report {tmp_path}\n  python -m agents.evaluate run={tmp_path}\n",
    ):
        assert expected in shown


def test_tensorboard_holds_every_step(tmp_path):
    with Tracker(tmp_path, 4) as tracker:
        record(tracker, range(1, 5))
        tracker.sample(4, "an answer")
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("rollout/reward")] == [1, 2, 3, 4]
    assert events.Scalars("eval/accuracy")[0].value == 0.5
    assert "sample/text_summary" in events.Tags()["tensors"]


def test_resumed_run_writes_the_files_of_an_uninterrupted_one(tmp_path, monkeypatch):
    # Event files of one second are read by the names of their counters, as texts: 10 would come before 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    with Tracker(whole, 8) as tracker:
        tracker.evaluation(0, HELD_OUT)
        record(tracker, range(1, 9))
        tracker.evaluation(8, HELD_OUT)
    with Tracker(cut, 8) as tracker:
        tracker.evaluation(0, HELD_OUT)
        record(tracker, range(1, 7))
    with Tracker(cut, 8) as tracker:
        tracker.resume(3)
        record(tracker, range(4, 9))
        tracker.evaluation(8, HELD_OUT)
    for name in ("metrics.jsonl", "summary.log"):
        assert text(whole, name) == text(cut, name)
    events = EventAccumulator(str(cut)).Reload()
    assert [event.step for event in events.Scalars("rollout/reward")] == list(range(1, 9))


def test_log_every_keeps_evaluations_in_the_summary(tmp_path):
    with Tracker(tmp_path, 9, log_every=3) as tracker:
        record(tracker, range(1, 10))
    assert [line.split()[0] for line in text(tmp_path, "summary.log").splitlines()] == ["step", "3", "4", "6", "9"]
    assert len(text(tmp_path, "metrics.jsonl").splitlines()) == 9


def test_tracker_logs_an_error_and_restores_logging(tmp_path, capsys):
    root = logging.getLogger()
    before = (list(root.handlers), logging.getLogger("agents").level)

    def unlucky_run():
        with Tracker(tmp_path, 9) as tracker:
            record(tracker, [1])
            raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        unlucky_run()
    assert "RuntimeError: out of luck" in text(tmp_path, "train.log")
    assert (tmp_path / "curves.png").exists()
    assert "All files are in" not in capsys.readouterr().out
    assert (list(root.handlers), logging.getLogger("agents").level) == before


def test_console_shows_warnings_but_not_the_final_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def unlucky_run():
        with Tracker(tmp_path, 9):
            logging.getLogger("agents").warning("take care")
            raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        unlucky_run()
    shown = capsys.readouterr().out
    assert "take care" in shown
    assert "out of luck" not in shown  # the caller shows it
    assert "ERROR   agents.tracking.tracker: The run ended with RuntimeError: out of luck" in text(
        tmp_path, "train.log"
    )


@pytest.fixture
def wandb_runs(monkeypatch):
    """Runs that the stand-in for wandb started, with their options and rows."""
    runs = []

    class Run(types.SimpleNamespace):
        def define_metric(self, *_, **__):
            pass

        def log(self, row):
            self.rows.append(row)

        def finish(self, exit_code):
            self.exit_code = exit_code

    def init(**options):
        runs.append(Run(options=options, rows=[], exit_code=None))
        return runs[-1]

    def table(columns, data):
        return types.SimpleNamespace(columns=columns, data=data)

    spec = types.SimpleNamespace(origin="wandb")
    module = types.SimpleNamespace(__spec__=spec, init=init, Table=table, Error=OSError)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return runs


def test_tensorboard_and_wandb_get_the_same_metrics(tmp_path, wandb_runs):
    with Tracker(tmp_path, 4, wandb=True) as tracker:
        tracker.evaluation(0, HELD_OUT)
        tracker.log(1, metrics(1) | {"broken": float("nan")})
        record(tracker, [2, 3, 4])
        tracker.sample(4, "an answer")
        tracker.episodes({"step": 4, "correct": [1.0], "episodes": []}, ["one", "two ``` and <b>"])
    events = EventAccumulator(str(tmp_path)).Reload()
    (run,) = wandb_runs
    ours = [(row["step"], name, value) for row in run.rows for name, value in row.items() if isinstance(value, float)]
    theirs = [(e.step, name, e.value) for name in events.Tags()["scalars"] for e in events.Scalars(name)]
    assert len(ours) == len(theirs) > 20
    for (step, name, value), (their_step, their_name, their_value) in zip(sorted(ours), sorted(theirs), strict=True):
        assert (step, name) == (their_step, their_name)
        assert value == pytest.approx(their_value, rel=1e-6)
    texts = {name: table for row in run.rows for name, table in row.items() if hasattr(table, "data")}
    assert {name.removesuffix("/text_summary") for name in events.Tags()["tensors"]} == set(texts)
    assert texts["sample"].data == [[4, "an answer"]]
    assert texts["episodes"].data == [[4, "one"], [4, "two ``` and <b>"]]
    (shown,) = events.Tensors("episodes/text_summary")
    written = shown.tensor_proto.string_val[0].decode()
    assert "````\ntwo ``` and <b>\n````" in written  # the fence is longer than any in the text


def test_resumed_run_deletes_later_episodes(tmp_path):
    kept = {"correct": [1.0], "episodes": []}
    with Tracker(tmp_path, 8) as tracker:
        for step in (0, 4, 6):
            tracker.episodes({"step": step, **kept}, [])
            tracker.evaluation(step, HELD_OUT) if step == 0 else tracker.log(step, metrics(step) | HELD_OUT)
    with Tracker(tmp_path, 8) as tracker:
        tracker.resume(4)
    assert sorted(path.name for path in (tmp_path / "validate").iterdir()) == ["step_0.json", "step_4.json"]


def test_tags_begin_with_their_group():
    given = ["reward", "reward/planner", "kl", "kl/planner", "eval/accuracy", "episode/nodes", "time/step", "step_kl"]
    assert [tag(name) for name in given] == [
        *("rollout/reward", "rollout/reward/planner", "loss/kl", "loss/kl/planner", "eval/accuracy"),
        *("episode/nodes", "time/step", "loss/step_kl"),
    ]


def test_every_metric_of_the_update_is_in_the_group_loss():
    glossary = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    rows = glossary.partition("## Update")[2].partition("\n## ")[0].splitlines()
    names = [name for row in rows if row.startswith("| `") for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert len(names) > 15
    assert sorted(names) == sorted(SHOWN["loss"])


def test_record_of_a_run_has_one_id_and_every_start(tmp_path, monkeypatch):
    record_start(tmp_path, "python -m agents.train", resuming=False)
    first = read_record(tmp_path)
    record_start(tmp_path, None, resuming=True)
    both = read_record(tmp_path)
    assert both["id"] == first["id"]
    assert [start["command"] for start in both["starts"]] == ["python -m agents.train", None]
    assert first["starts"][0].keys() == {
        *("command", "time", "reason_envs", "torch", "transformers", "python", "commit", "machine")
    }
    monkeypatch.setattr("shutil.which", lambda name: None)
    record_start(tmp_path, None, resuming=False)
    assert read_record(tmp_path)["id"] != first["id"]
    assert [start["commit"] for start in read_record(tmp_path)["starts"]] == [None]


def test_wandb_gets_every_step_and_a_resumed_run_keeps_its_id(tmp_path, wandb_runs):
    (tmp_path / "config.yaml").write_text("seed: 7\n")
    record_start(tmp_path, None, resuming=False)
    with Tracker(tmp_path, 2, wandb=True) as tracker:
        record(tracker, [1])
    with Tracker(tmp_path, 2, wandb=True) as tracker:
        tracker.resume(1)
        record(tracker, [2])
    assert [run.rows[0]["step"] for run in wandb_runs] == [1, 2]
    record_start(tmp_path, None, resuming=False)  # the folder was created again
    with Tracker(tmp_path, 2, wandb=True):
        pass
    assert wandb_runs[0].options["id"] == wandb_runs[1].options["id"] != wandb_runs.pop().options["id"]
    assert wandb_runs[0].options["config"] == {"seed": 7}
    assert [run.exit_code for run in wandb_runs] == [0, 0]
    assert [(run.options["project"], run.options["name"]) for run in wandb_runs] == [("reason-envs", tmp_path.name)] * 2


def test_wandb_takes_the_configured_names(tmp_path, wandb_runs):
    (tmp_path / "config.yaml").write_text("wandb_project: mine\nwandb_run_name: first\n")
    with Tracker(tmp_path, 2, wandb=True):
        pass
    assert (wandb_runs[0].options["project"], wandb_runs[0].options["name"]) == ("mine", "first")


def test_missing_wandb_error_gives_the_install_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ReasonEnvsError, match=r"reason-envs\[wandb\]"):
        Tracker(tmp_path, 1, wandb=True)


def test_wandb_error_explains_how_to_log_in(tmp_path, wandb_runs, monkeypatch):
    def init(**_):
        raise OSError("No API key configured.")

    monkeypatch.setattr(sys.modules["wandb"], "init", init)
    with pytest.raises(ReasonEnvsError, match=r"No API key configured.*WANDB_MODE=offline"):
        Tracker(tmp_path, 1, wandb=True)


def test_peak_memory_grows_with_allocated_memory():
    before = peak_memory_mb()
    held = bytearray(b"x") * int(before * 1e6)
    assert peak_memory_mb() >= before + 0.5 * len(held) / 1e6
    assert before > 1


TERMINALS = """
import os, sys
from pathlib import Path
from agents.tracking.tracker import Tracker
for terminal in sys.argv[2:]:
    for stream in (1, 2):
        os.dup2(int(terminal), stream)
    os.close(int(terminal))
    folder = Path(sys.argv[1]) / terminal
    folder.mkdir()
    with Tracker(folder, 4) as tracker:
        tracker.status("evaluating 9 episodes")
        for step in range(1, 5):
            tracker.log(step, {"reward": step / 4, "accuracy": 0.5})
            tracker.note(f"note {step}")
    sys.stdout.flush()
"""


def everything_shown(terminal):
    """Return what a terminal shows until its other end is closed."""
    shown = b""
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # Linux raises it when the other end is closed
            chunk = b""
        if not chunk:
            os.close(terminal)
            return shown.decode()
        shown += chunk


@pytest.mark.parametrize(
    ("columns", "end"), [(80, "left, reward +0.100  accuracy 25.0%"), (60, "left, reward +0.100"), (40, "left")]
)
def test_bar_leaves_out_metrics_that_do_not_fit(monkeypatch, columns, end):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, columns))
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        console = Console(1234)
        console.open()
        console.step(1234, metrics(1))
        console.close()
        monkeypatch.undo()
    last = everything_shown(ours).split("\r")[-2].strip()
    assert len(last) <= columns
    assert last.endswith(end)


def test_console_shows_a_bar_on_a_terminal(tmp_path):
    """One process writes to terminals of several sizes, one after another."""
    sizes = [(24, 0), (0, 130), (0, 0), (24, 130)]
    pairs = [pty.openpty() for _ in sizes]
    for (_, theirs), size in zip(pairs, sizes, strict=True):
        termios.tcsetwinsize(theirs, size)
    ends = [theirs for _, theirs in pairs]
    process = subprocess.Popen([sys.executable, "-c", TERMINALS, str(tmp_path), *map(str, ends)], pass_fds=ends)
    for end in ends:
        os.close(end)
    for (ours, _), size in zip(pairs, sizes, strict=True):
        shown = everything_shown(ours)
        for expected in ("100%|", "4/4 steps", "reward +1.000", "note 3", "accuracy 50.0%", "evaluating 9"):
            assert expected in shown, size
        assert "step 1/4" not in shown, size
    assert process.wait() == 0
