"""Petting environments with invalid input: no error, every response is counted, and episodes end."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from petting_toys import NAMES, go, play, random_policy, solver, start

from reason_envs import make_environment
from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards.code.tests import UnitTests
from reason_envs.sandbox.layers import detect
from reason_envs.tasks import Task

SOLVED = {
    "petting_plan_path": "..*",
    "petting_sokoban": "#####\n#@* #\n#####",
    "petting_sudoku": "1234\n3412\n2143\n4321",
}


def step(environment, actions):
    return asyncio.run(environment.step(actions))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "garbage",
    ["", " \n", "\x00", "\ud800", "((((" * 500, "x" * 5_000, 7, ["R"], b"R", object()],
    ids=lambda garbage: (
        f"{type(garbage).__name__}-{str(garbage)[:4]!a}" if isinstance(garbage, str) else type(garbage).__name__
    ),
)
def test_unreadable_responses_cost_their_turn_and_are_counted(name, garbage):
    environment, _ = start(name)
    for decisions in range(1, 9):
        before = environment.value(environment.state.game)
        result = go(environment, garbage)
        assert result.info["valid_action"] is False
        assert result.info["local_reward"] == -environment.config.bad_format
        assert environment.value(environment.state.game) == before
        failures = ("unparsable_actions", "program_errors")
        assert sum(result.info[count] for count in failures) == decisions
    assert result.done
    assert not result.info["success"]


@pytest.mark.parametrize("name", NAMES)
def test_too_long_responses_are_not_read(name):
    environment, _ = start(name, max_response_chars=500)
    right = solver(environment)
    for text, unread in ((right + " " * (501 - len(right)), 1), (right + " " * (500 - len(right)), 0)):
        assert go(environment.fork(), text).info["unparsable_actions"] == unread


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=40), min_size=8, max_size=8))
@pytest.mark.parametrize("name", NAMES)
def test_no_text_raises_an_error(name, texts):
    environment, result = start(name)
    for text in texts:
        if not result.done:
            result = go(environment, text)
    assert result.done or environment.state.decisions == 8


@pytest.mark.parametrize("name", NAMES)
def test_missing_responses_cost_their_turn(name):
    environment, _ = start(name)
    for decisions in range(1, 9):
        result = step(environment, {})
        assert result.info["missing_actions"] == decisions
        assert result.info["valid_action"] is False
    assert result.done
    assert not result.info["success"]
    assert result.info["unparsable_actions"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_actions_out_of_turn_are_only_counted(name):
    environment, other = start(name)[0], start(name)[0]
    actor, idle = environment.agents
    result = step(environment, {actor: solver(environment), idle: "anything", "boss": "anything"})
    alone = step(other, {actor: solver(other)})
    assert result.info["out_of_turn_actions"] == 2
    assert result.rewards == alone.rewards
    assert result.observations == alone.observations
    third = step(environment, {actor: "again"})  # the right response of the wrong role
    assert third.info["missing_actions"] == 1
    assert third.info["out_of_turn_actions"] == 3
    assert set(third.rewards) == {idle}


@pytest.mark.parametrize("name", NAMES)
def test_responses_of_other_roles_are_unreadable(name):
    environment, _ = start(name)
    swapped = {
        "tool": "RRDD",
        "planner": "print('RRDD')",
        "reasoner": "print(7)",
        "coder": "assert",
        "tester": "f = abs",
    }
    results = play(environment, lambda e: swapped[e.role])
    assert len(results) == 8
    assert not results[-1].info["success"]
    assert not any(result.info["valid_action"] for result in results)


@pytest.mark.parametrize("name", SOLVED)
def test_solved_grids_end_with_the_first_decision(name):
    for text in ("print('R')", None):
        environment = make_environment(name)
        task = {"question": SOLVED[name], "answer": ""}
        result = asyncio.run(environment.reset(options={"task": task}))
        assert result.info["solved_at_start"]
        assert result.observations  # Gymnasium requires at least one step per episode
        result = go(environment, text)
        assert result.done
        assert (result.info["success"], result.info["team_reward"], result.info["progress"]) == (True, 0.0, 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_empty_programs_are_unparsable(name):
    environment, _ = start(name)
    info = go(environment, "```python\n\n```").info
    assert (info["unparsable_actions"], info["program_errors"]) == (1, 0)


@pytest.mark.parametrize("name", NAMES)
def test_timeouts_are_never_a_success(name):
    environment, _ = start(name, program_seconds=0.2, max_turns=1)
    loop = "while True: pass"
    if name == "petting_code":
        # right for some inputs of the golden tests, endless for one
        code = environment.state.game.tests.reference
        result = go(environment, f"{code}\ng = f\ndef f(x):\n    while x == 9: pass\n    return g(x)")
        assert result.info["program_timeouts"] == 1
        result = go(environment, environment.state.game.tests.code)
    else:
        text = solver(environment)
        result = go(environment, f"{text}\n{loop}")  # text printed before the timeout does not count
        assert result.info["program_timeouts"] == 1
        assert result.info["local_reward"] == -environment.config.bad_format
        result = go(environment, "?")
    assert result.done
    assert not result.info["success"]
    assert result.info["progress"] < 1


@pytest.mark.parametrize("answer", ["9^9^9^9", r"\sqrt{", "$", "x" * 301, "{}", "nan", "1/0"])
def test_answers_that_cannot_be_compared_agree_with_nothing(answer):
    environment, _ = start("petting_math")
    first = go(environment, f"print({answer!r})")
    assert first.info["local_reward"] <= 0
    second = go(environment, rf"\boxed{{{answer}}}")
    assert not second.info["success"]


UNUSABLE = {
    "contradicting": {"test_list": ["assert f(1) == 2", "assert f(1) == 3"]},
    "broken": {"tests": UnitTests("for i in 3:\n    assert f(i) == 2 * i", "f", "f", "def f(x):\n    return 2 * x\n")},
    "printed": {"inputs": ["1\n", "2\n"], "outputs": ["2\n", "any\n"], "solution": "print(2 * int(input()))"},
    "another python": {"inputs": ["1\n"], "outputs": ["2\n"], "solution": "print 2 * input()"},
}
"""Problems whose right program does not pass their tests."""


@pytest.mark.parametrize("role", ["coder", "tester"])
@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_golden_tests_end_the_episode_without_reward(kind, role, caplog):
    if kind == "broken" and detect().missing:
        pytest.skip(f"the native sandbox lacks {detect().missing} here")
    sandbox = {"name": "native", "workers": 1} if kind == "broken" else "monty"
    task = Task("odd/7", "f(x): double x", "def f(x):\n    return 2 * x\n", UNUSABLE[kind])
    with closing(make_environment("petting_code", sandbox=sandbox)) as environment:
        asyncio.run(environment.reset(seed=1, options={"task": task}))
        if role == "tester":
            go(environment, None)
        before = environment.fork()
        for fork in (before.fork(), before.fork()):
            result = go(fork, "def f(x): return 2 * x" if role == "coder" else "assert f(1) == 2")
            assert result.done
            assert (result.info["unusable_tests"], result.info["success"]) == (1, False)
            assert result.rewards == {role: 0.0}
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 1
    assert "'odd/7'" in warned[0]


def test_contradicting_tests_are_counted_and_never_pass():
    environment, _ = start("petting_code")
    go(environment, solver(environment))
    right = environment.state.game.tests.code.split("\n")[0]
    result = go(environment, f"{right}\n{right.replace('== ', '== 9')}")
    assert result.info["contradicting_tests"] == 1
    assert not result.done
    assert result.info["local_reward"] <= 0.5


@pytest.mark.parametrize(
    ("tests", "count"),
    [
        ("assert f(1) == 2\nassert f( 1 ) == 3", 1),
        ("assert f(1)\nassert not f(1)", 1),
        ("assert f(1) == 2\nassert not f(1)", 1),
        ("assert f(1) == 2\nassert f(1)", 0),
        ("assert f(1) == 1\nassert f(1) == 1.0", 0),
        ("assert f(1) == {1: 2, 3: 4}\nassert f(1) == {3: 4, 1: 2}", 0),
        ("assert f(1) is None\nassert f(1) == 0\nassert f(2) is None\nassert not f(2)", 1),
    ],
)
def test_contradictions_are_calls_without_a_possible_value(tests, count):
    environment, _ = start("petting_code")
    go(environment, solver(environment))
    assert go(environment, tests).info["contradicting_tests"] == count


def test_too_many_tests_are_unreadable():
    environment, _ = start("petting_code", max_tests=2)
    go(environment, solver(environment))
    result = go(environment, "\n".join(f"assert f({i}) == 0" for i in range(3)))
    assert result.info["unparsable_actions"] == 1
    assert result.observations["coder"].endswith("\n= 3 tests, 2 at most")


@pytest.mark.parametrize(
    "tests",
    [
        "assert True",
        "assert f(1)",
        "import os\nassert f(1) == 1",
        "assert f(f(1)) == 2",
        "assert 1 == f(1)",
        "assert g(1) == 1",
        "assert f(x) == 1",
        "assert f(1) == f(1)",
        "for i in range(3):\n    assert f(i) == i",
        "\n".join(f"assert f({i}) == {i}" for i in range(9)),
        "assert f(" + "-" * 3000 + "1) == 1",
        "assert f(1) == " + "[" * 150 + "]" * 150,
    ],
    ids=lambda text: text[:30],
)
def test_invalid_tests_do_not_end_the_episode(tests):
    environment, _ = start("petting_code")
    go(environment, "def f(x):\n    return [] if x == 77 else 'no'")
    result = go(environment, tests)
    assert not result.done or tests == "assert f(1)"


def test_programs_cannot_forge_test_outcomes():
    environment, _ = start("petting_code")
    forged = "class A:\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return A()"
    assert go(environment, forged).info["progress"] == 0
    assert not go(environment, "assert f(1) == 1").done


@pytest.mark.parametrize("name", NAMES)
def test_reset_refuses_broken_problems(name):
    environment = make_environment(name)
    before = environment.state
    if name == "petting_math":
        return
    with pytest.raises(ReasonEnvsError):
        asyncio.run(environment.reset(options={"task": {"question": "?", "answer": "?"}}))
    assert environment.state is before


@pytest.mark.parametrize("name", NAMES)
def test_counters_start_at_zero_in_every_episode(name):
    environment, _ = start(name)
    play(environment, random_policy(1))
    info = asyncio.run(environment.reset(seed=3)).info
    counts = [value for key, value in info.items() if key.endswith(("actions", "errors", "timeouts", "moves", "tests"))]
    assert len(counts) >= 5
    assert not any(counts)
