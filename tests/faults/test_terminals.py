"""Texts of problems and models cannot command a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import subprocess
import sys

import gymnasium as gym
import pytest

import reason_envs  # noqa: F401
from agents import evaluate as evaluate_command
from agents.tracking.tracker import Tracker
from reason_envs.check import __main__ as check_command
from reason_envs.errors import ReasonEnvsError, printable
from reason_envs.rewards.code import async_cache
from reason_envs.tasks import __main__ as tasks_command

ATTACKS = ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "a\rb", "\x08\x7f", "\x00", "\u202e\u2066", "\ud800"]


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_control_characters_reach_no_terminal(attack, tmp_path, capsys):
    assert printable(f"é\t{attack}\n") == f"é\t{''.join(c if c.isprintable() else ascii(c)[1:-1] for c in attack)}\n"
    (tmp_path / "t.jsonl").write_text(json.dumps({"question": f"q{attack}", "answer": f"1{attack}", "more": attack}))
    tasks_command.main(["show", "json", f"path={tmp_path / 't.jsonl'}"])
    shown = capsys.readouterr().out
    shown += shown_by(lambda tracker: tracker.sample(1, f"text{attack}"), tmp_path, capsys)
    assert "text" in shown
    assert attack not in shown


def shown_by(actions, tmp_path, capsys):
    """Return what the actions write to the terminal and to ``train.log``."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []  # as in a command
    try:
        with Tracker(tmp_path / "run", 1) as tracker:
            actions(tracker)
    finally:
        root.handlers = handlers
    captured = capsys.readouterr()
    return captured.out + captured.err + (tmp_path / "run" / "train.log").read_text()


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_messages_of_a_run_contain_no_control_characters(attack, tmp_path, capsys):
    log = logging.getLogger("agents.rollout.episodes")

    def write(tracker):
        log.warning("task %s failed: %s", f"id{attack}", ReasonEnvsError(f"text{attack}"))
        tracker.note(f"note{attack}")
        try:
            raise KeyError(f"key{attack}") from OSError(f"cause{attack}")
        except KeyError:
            log.exception("of others")
        logging.getLogger("someone.else").warning(f"line{attack}")

    shown = shown_by(write, tmp_path, capsys)
    assert all(word in shown for word in ("id", "text", "note", "key", "cause", "line"))
    assert attack not in shown


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_failures_of_a_run_contain_no_control_characters(attack, tmp_path, capsys):
    def fail(tracker):
        raise RuntimeError(f"model{attack}")

    with pytest.raises(RuntimeError):
        shown_by(fail, tmp_path, capsys)
    assert attack not in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if "\0" not in attack], ids=range(len(ATTACKS) - 1))
@pytest.mark.parametrize(
    "command",
    [
        lambda folder, attack: tasks_command.main(["stats", "json", f"path={folder}/a{attack}.jsonl"]),
        lambda folder, attack: tasks_command.main(["show", f"json{attack}"]),
        lambda folder, attack: check_command.main([f"Nothing{attack}-v0"]),
        lambda folder, attack: evaluate_command.main([f"run={folder}/a{attack}"]),
        lambda folder, attack: evaluate_command.main([f"env=single{attack}"]),
    ],
    ids=["file", "family", "environment", "run", "override"],
)
def test_errors_of_commands_contain_no_control_characters(attack, command, tmp_path, capsys):
    with contextlib.suppress(SystemExit):
        assert command(tmp_path, attack) != 0
    captured = capsys.readouterr()
    assert "error: " in captured.err
    assert attack not in captured.out + captured.err


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_episodes_for_people_contain_no_control_characters(attack, capsys):
    env = gym.make("SingleTurnMath-v0", render_mode="human", tasks=[{"question": f"q{attack}", "answer": "1"}])
    env.reset(seed=1)
    env.step(f"answer{attack}")
    env.render()
    shown = capsys.readouterr().out
    assert "answer" in shown
    assert attack not in shown


def test_warnings_about_code_of_models_stay_off_standard_error():
    code = "import ast, reason_envs.sandbox\nast.parse('1 is 1')\ncompile('1 is 1', '<response>', 'exec')\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_async_cache_keeps_a_limited_number_of_values(monkeypatch):
    monkeypatch.setattr(async_cache, "MAX_VALUES", 3)

    async def double(value):
        return 2 * value

    async def main():
        cache = async_cache.AsyncCache(double)
        assert [await cache(value) for value in range(10)] == list(range(0, 20, 2))
        return cache

    assert list(asyncio.run(main())._values) == [7, 8, 9]
