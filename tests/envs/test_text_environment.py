"""The text environment of ``tests/data/their_parts``, written from outside with `TextEnvironment`."""

from __future__ import annotations

import ast
import asyncio
import importlib
import re
import sys
from pathlib import Path

import pytest

from agents.config.compose import compose_config
from agents.train import train
from reason_envs import make_environment
from reason_envs.check import check_environment
from reason_envs.errors import ReasonEnvsError

SOURCES = Path(__file__).parents[1] / "data" / "their_parts" / "src"
NAME = "their_parts.guess:TheirGuess-v0"
SEVEN = {"question": "Find a number from 1 to 9.", "answer": "7"}


@pytest.fixture(autouse=True, scope="module")
def their_parts():
    sys.path.insert(0, str(SOURCES))
    yield importlib.import_module("their_parts.guess")
    sys.path.remove(str(SOURCES))
    for name in [name for name in sys.modules if name.partition(".")[0] == "their_parts"]:
        del sys.modules[name]


def play(*guesses, **options):
    """Play an episode; returns the environment and every result."""
    env = make_environment(NAME, **options)

    async def episode():
        results = [await env.reset(seed=3, options={"task": SEVEN})]
        for guess in guesses:
            results.append(await env.step({"player": guess}))
        return results

    return env, asyncio.run(episode())


def test_example_has_at_most_30_lines_and_no_private_name(their_parts):
    source = Path(their_parts.__file__).read_text()
    code = source.replace(ast.get_docstring(ast.parse(source), clean=False), "")
    assert len([line for line in code.splitlines() if line.strip(' "')]) <= 30
    assert not re.search(r"\b_\w+", code)


def test_checker_passes_the_example():
    failed = [result for result in check_environment(NAME) if result.status == "FAIL"]
    assert not failed


def test_guesses_are_answered_and_paid():
    env, results = play("3", "x", "7")
    question = SEVEN["question"]
    assert [r.observations for r in results] == [
        {"player": question},
        {"player": f"{question}\n3 is too low."},
        {"player": f"{question}\n3 is too low.\nWhat?"},
        {},
    ]
    assert [r.rewards for r in results[1:]] == [{"player": 0.0}, {"player": -0.1}, {"player": 1.0}]
    assert [r.info["valid_action"] for r in results[1:]] == [True, False, True]
    assert (results[-1].terminated, results[-1].truncated) == ({"player": True}, {"player": False})
    assert results[-1].info["correct"]
    assert env.state.reward == pytest.approx(0.9)


def test_episodes_end_after_the_last_turn():
    env, results = play("1", "9", turns=2)
    assert (results[-1].done, results[-1].info["correct"]) == (True, False)
    with pytest.raises(ReasonEnvsError, match="call reset first"):
        asyncio.run(env.step({"player": "7"}))


@pytest.mark.parametrize("action", [None, 7, "7" * 20_001])
def test_invalid_actions_reach_the_subclass_as_empty_responses(action):
    _, results = play(action)
    assert (results[-1].rewards, results[-1].info["valid_action"]) == ({"player": -0.1}, False)
    assert results[-1].observations["player"].endswith("\nWhat?")


def test_task_before_the_first_reset_is_an_error():
    with pytest.raises(ReasonEnvsError, match="No episode has started: call reset first"):
        _ = make_environment(NAME).task


def test_forks_share_the_task_and_nothing_else():
    env, _ = play("1")
    fork = env.fork()
    asyncio.run(fork.step({"player": "2"}))
    assert fork.task is env.task
    assert (env.state.responses, env.state.replies) == (["1"], ["1 is too low."])
    assert fork.state.turn == 2


def test_rendering_shows_every_turn():
    env, _ = play("1", "7", render_mode="ansi")
    lines = [f"Problem: {SEVEN['question']}", "Response: 1", "Reply: 1 is too low.", "Response: 7", "Reward: 1.0"]
    assert env.render().splitlines() == lines


def test_example_trains_from_the_command_line(tiny_model, tmp_path):
    sizes = ["steps=1", "eval_tasks=4", "algo.tasks_per_step=4", "algo.samples_per_task=2", "policy.max_tokens=4"]
    model = [f"policy.model={tiny_model}", "policy.device=cpu", f"output_dir={tmp_path / 'run'}"]
    train(compose_config([f"env={NAME}", *sizes, *model]))
    assert (tmp_path / "run" / "policy_final").is_dir()
