"""The run folder: it has one owner, and its checkpoints belong to one configuration."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from run_toys import checkpoints, final_weights, make_run, overrides, rows, train

from agents import train as command
from agents.config.compose import compose_config
from agents.tracking.run_record import record_start
from agents.training.folder import check_same_config, owning, read_config, write_config
from reason_envs.errors import RunError

HOLD = "import sys, time; from pathlib import Path; from agents.training.folder import check_same_config, owning\n"
HOLD += "with owning(Path(sys.argv[1])): print('owned', flush=True); time.sleep(600)"


@pytest.fixture(scope="module")
def whole(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(make_run(tiny_model, folder))
    return folder


@pytest.fixture(scope="module")
def half(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("half") / "run"
    train(make_run(tiny_model, folder, "steps=2"))
    shutil.rmtree(folder / "policy_final")
    return folder


@pytest.fixture
def stopped(half, tmp_path):
    """A copy of the folder of a run that stopped after step 2 of 4."""
    folder = shutil.copytree(half, tmp_path / "run")
    edited(folder, output_dir=str(folder))
    return folder


def edited(folder, **changes):
    """Change options of a run's config.yaml, written as ``group__option``."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for name, value in changes.items():
        *groups, option = name.split("__")
        part = config
        for group in groups:
            part = part[group]
        part[option] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize("kind", ["config.yaml", "run.json"])
def test_a_process_that_is_killed_while_it_writes_a_file_leaves_the_old_one(tmp_path, kind, monkeypatch):
    def write(steps):
        write_config(tmp_path, compose_config([f"steps={steps}"]))
        record_start(tmp_path, None, resuming=steps > 1)

    write(1)
    before = (tmp_path / kind).read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *_: None)  # it is killed before
    write(2)
    assert (tmp_path / kind).read_bytes() == before
    monkeypatch.undo()
    write(2)
    assert (tmp_path / kind).read_bytes() != before


@pytest.mark.parametrize("text", ["", "steps: 3\n"])
def test_a_config_without_an_environment_is_explained(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(RunError, match=r"config.yaml cannot be used.*env.*Restore it, or start a new run"):
        read_config(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["owner.lock", "config.yaml", "run.json", "metrics.jsonl", "train.log", "checkpoints"])
def test_owning_refuses_pipes_and_devices_as_files(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(RunError, match=f"{name} must be a (file|folder): move it"), owning(tmp_path):
        pass
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(os.devnull)
    with pytest.raises(RunError, match=f"{name} must be a (file|folder): move it"), owning(tmp_path):
        pass


def test_owning_refuses_a_folder_whose_name_is_not_valid_unicode(tmp_path):
    with pytest.raises(RunError, match="not valid Unicode"), owning(tmp_path / "\udcff"):
        pass


def test_owning_refuses_a_second_owner_and_names_the_first(tmp_path):
    with owning(tmp_path / "run"):
        with (
            pytest.raises(RunError, match=f"in use by another run .process {os.getpid()} on "),
            owning(tmp_path / "run"),
        ):
            raise AssertionError("two owners")
        (tmp_path / "run" / "config.yaml").touch()
    with owning(tmp_path / "run"):  # released
        pass
    assert (tmp_path / "run" / "config.yaml").exists()


def test_owning_leaves_no_folder_of_a_run_that_did_not_start(tmp_path):
    with pytest.raises(KeyError), owning(tmp_path / "run"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_owning_explains_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written"), owning(tmp_path / "file" / "run"):
        pass
    with pytest.raises(RunError, match="cannot be written"), owning(tmp_path / "file"):
        pass


def test_killed_owner_releases_the_folder(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "owned\n"
    with pytest.raises(RunError, match=f"process {holder.pid} on "), owning(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with owning(tmp_path):
        pass


@pytest.mark.parametrize("resuming", [False, True])
def test_command_reads_and_writes_nothing_in_an_owned_folder(whole, tiny_model, tmp_path, resuming, monkeypatch):
    folder = whole if resuming else tmp_path / "run"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "owner.lock"}
    monkeypatch.setattr("agents.training.build.build", lambda plan: pytest.fail("the run was built"))
    resume = lambda: command.resume([f"resume={folder}", "steps=9"])  # noqa: E731
    start = lambda: command.train(compose_config(overrides(tiny_model, folder)))  # noqa: E731
    with owning(folder), pytest.raises(RunError, match="is in use by another run"):
        (resume if resuming else start)()
    assert before == {path: path.read_bytes() for path in before}
    assert resuming or not folder.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"algo__optimizer__learning_rate": 0.5},
        {"policy__max_tokens": 13, "env__tasks": {"name": "chain_sum", "max_samples": 21}},
        {"algo__samples_per_task": 2},
        {"env__reward__name": "math"},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_resume_refuses_another_configuration_and_names_the_options(stopped, changes, monkeypatch):
    edited(stopped, **changes)
    monkeypatch.setattr("agents.training.build.build", lambda plan: pytest.fail("the run was built"))
    before = checkpoints(stopped)
    with pytest.raises(RunError, match="was trained with other options than") as error:
        command.resume([f"resume={stopped}", "steps=4"])
    for name, value in changes.items():
        key = name.replace("__", ".")
        assert key in str(error.value)
        assert isinstance(value, dict) or repr(value) in str(error.value)
    assert checkpoints(stopped) == before


def test_resume_accepts_another_length_cadence_and_place(whole, stopped, tiny_model, tmp_path):
    moved = stopped.rename(tmp_path / "moved")
    edited(moved, log_every=2, save_every=1, keep_last=9, wandb_run_name="x", output_dir=str(moved))
    command.resume([f"resume={moved}", "steps=4"])
    assert checkpoints(moved) == ["step_0", "step_2", "step_3", "step_4"]
    assert rows(moved)[-2:] == rows(whole)[-2:]
    ours, theirs = final_weights(moved), final_weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_check_same_config_accepts_a_checkpoint_that_holds_none(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("agents.training.checkpoint.read_state", lambda path: {"step": 2})
    check_same_config(compose_config(overrides(tiny_model, tmp_path)), tmp_path / "step_2")


def test_owning_refuses_entries_of_the_wrong_kind_before_a_model_loads(tmp_path):
    for name, kind in (("metrics.jsonl", "file"), ("checkpoints", "folder")):
        folder = tmp_path / name / "run"
        (folder / name).mkdir(parents=True) if kind == "file" else folder.mkdir(parents=True)
        if kind == "folder":
            (folder / name).touch()
        with pytest.raises(RunError, match=f"{name} must be a {kind}"), owning(folder):
            pass


def test_owning_refuses_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "config.yaml")
    with pytest.raises(RunError, match=r"config\.yaml cannot be written"), owning(tmp_path):
        pass


def test_run_killed_before_its_first_checkpoint_starts_again(whole, tiny_model, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(whole / "config.yaml", folder)
    (folder / "metrics.jsonl").write_text("")
    (folder / "summary.log").write_text("cut")
    with pytest.raises(RunError, match="start the run again with the same command"):
        command.resume([f"resume={folder}", "steps=4"])
    train(make_run(tiny_model, folder))
    assert rows(folder) == rows(whole)


def test_export_carries_no_files_of_an_interrupted_export(tiny_model, tmp_path):
    partial = tmp_path / "run" / "policy_final.partial"
    partial.mkdir(parents=True)
    (partial / "foreign").touch()
    train(make_run(tiny_model, tmp_path / "run", "steps=1", "eval_every=0"))
    assert not (tmp_path / "run" / "policy_final" / "foreign").exists()
    assert not partial.exists()


def test_resume_warns_of_lost_metrics(stopped, caplog):
    lines = (stopped / "metrics.jsonl").read_text().splitlines(keepends=True)
    (stopped / "metrics.jsonl").write_text("".join(line for line in lines if '"step": 1,' not in line))
    command.resume([f"resume={stopped}", "steps=2"])
    assert "metrics.jsonl lacks 1 steps up to step 2, such as 1" in caplog.text
