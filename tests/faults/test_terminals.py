"""Texts of problems and models cannot command a terminal."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from agents.tracking.tracker import Tracker
from reason_envs.rewards.code import async_cache
from reason_envs.tasks import __main__ as tasks_command
from reason_envs.tasks.text import printable

ATTACKS = ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "a\rb", "\x08\x7f", "\x00"]


@pytest.mark.parametrize("attack", ATTACKS)
def test_control_characters_reach_no_terminal(attack, tmp_path, capsys):
    assert printable(f"é\t{attack}\n") == f"é\t{''.join(c if c.isprintable() else ascii(c)[1:-1] for c in attack)}\n"
    (tmp_path / "t.jsonl").write_text(json.dumps({"question": f"q{attack}", "answer": f"1{attack}", "more": attack}))
    tasks_command.main(["show", "json", f"path={tmp_path / 't.jsonl'}"])
    with Tracker(tmp_path / "run", 1, tensorboard=False) as tracker:
        tracker.sample(1, f"text{attack}")
    shown = capsys.readouterr().out + (tmp_path / "run" / "train.log").read_text()
    assert "text" in shown
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
