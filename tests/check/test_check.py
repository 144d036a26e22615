"""The checker passes valid environments and reports the rule that an invalid one breaks."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from dataclasses import dataclass

import pytest
from broken_toys import BROKEN, SOUND, TASKS, Config, SharedNotes
from scripted_engine import ScriptedEngine
from tree_toys import scripted
from workflow_toys import SIMPLE
from workflow_toys import TASKS as WORKFLOWS

from reason_envs import registration
from reason_envs.check import CHECKS, check_environment
from reason_envs.check.__main__ import main as check_command
from reason_envs.check.play import RESPONSES
from reason_envs.core import StepResult

OPTIONS = {
    "reason_tree": scripted(),
    "reason_tree_paper": scripted(),
    "planner_solver": {"solver": ScriptedEngine([r"3 + 4 = 7\n\boxed{7}", "I do not know."])},
    "workflow": {"tasks": WORKFLOWS, "engine": ScriptedEngine(r"20 + 7 = 27\n\boxed{27}")},
}
"""Options with scripted models; the other environments have no models."""


def not_applicable(results):
    return {result.name for result in results if result.status == "n/a"}


def failures(results):
    return {result.name: result for result in results if result.status == "FAIL"}


@pytest.mark.parametrize("name", registration.ENVIRONMENTS.names())
def test_built_in_environments_pass(name):
    results = check_environment(name, responses=(SIMPLE,) if name == "workflow" else (), **OPTIONS.get(name, {}))
    assert failures(results) == {}
    assert [result.name for result in results] == list(CHECKS)
    alone = set() if name.startswith("petting") else {"pettingzoo parallel", "pettingzoo aec", "turns"}
    assert not_applicable(results) == alone | (set() if name in OPTIONS else {"batching"})


@pytest.mark.parametrize("sound", SOUND, ids=lambda toy: toy.__name__)
def test_valid_toys_pass(sound):
    results = check_environment(sound, timeout=5)
    assert failures(results) == {}
    assert "batching" not in not_applicable(results)


@pytest.mark.parametrize(("broken", "name", "message"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_broken_rules_are_reported_with_a_fix(broken, name, message):
    failed = failures(check_environment(broken, timeout=0.3))
    assert re.search(message, failed[name].detail), failed[name].detail
    assert failed[name].fix
    assert len(failed) <= (1 if name == "play" else 4)


def test_every_check_can_fail():
    assert {name for _, name, _ in BROKEN} == {*CHECKS, "construction"}


def test_responses_must_be_actions():
    failed = failures(check_environment(SOUND[-1], responses=["1", "five"]))
    assert "converts the response 'five' to -1, which is not in Discrete(3)" in failed["round trip"].detail


def test_command_prints_a_line_per_check_and_exits_by_the_results(capsys, tmp_path, monkeypatch):
    assert check_command(["SingleTurnMath-v0", "tasks.name=chain_sum", "tasks.max_terms=3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "SingleTurnMath-v0"
    assert lines[-1] == "all 14 checks that apply passed"
    assert [line.split("  ")[0] for line in lines[1:4]] == ["pass", "pass", "n/a"]
    (tmp_path / "wrong_here.py").write_text(
        "import broken_toys, reason_envs\n"
        "reason_envs.register('Wrong-v0', lambda config: broken_toys.DeafToSeeds(), broken_toys.Config)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert check_command(["wrong_here:Wrong-v0"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"^FAIL  fork re-keying +The seed of the original is 0, and forks with", out, re.MULTILINE)
    assert "fix: If you override fork, call super().fork(seed)." in out
    assert out.endswith("\n1 failed (fork re-keying)\n")


def test_invalid_commands_are_explained():
    for arguments, message in (
        (["SingleTurnMth-v0"], "Did you mean 'SingleTurnMath-v0'"),
        (["no_such_module:My-v0"], "cannot import 'no_such_module'"),
        (
            ["SingleTurnMath-v0", "task=chain_sum"],
            "is not an option of environment 'SingleTurnMath-v0'. Did you mean 'tasks'?",
        ),
        (["SingleTurnMath-v0", "tasks"], "write key=value"),
        (["SingleTurnMath-v0", "--timeout", "0"], "timeout=0.0 must be above 0"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "reason_envs.check", *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert message in done.stderr


def test_errors_name_a_line_of_the_checked_file():
    class Deep(SOUND[0]):
        async def step(self, actions):
            return int("below")

    class InALibrary(SOUND[0]):
        async def step(self, actions):
            return json.loads("{")

    for broken in (Deep, InALibrary):
        (result,) = check_environment(broken)
        assert re.search(rf"\({re.escape(__file__)}, line \d+\)\. The other checks were not run\.$", result.detail)


def test_wrong_options_are_explained_without_a_line():
    (result,) = check_environment("SingleTurnMath-v0", system_prompt=5)
    assert result.detail == ("system_prompt=5 must be of type str | None (environment 'SingleTurnMath-v0').")
    assert not result.fix  # the environment is not the cause


def test_missing_correctness_is_reported():
    assert "correct" not in {r.name: r for r in check_environment("SingleTurnMath-v0")}["tasks"].detail

    class Silent(SOUND[0]):
        async def step(self, actions):
            result = await super().step(actions)
            result.info.pop("correct", None)
            return result

    detail = {result.name: result for result in check_environment(Silent)}["tasks"].detail
    assert "without 'correct' in the last info evaluations have no accuracy" in detail


def test_shared_state_of_forks_is_reported_once():
    assert set(failures(check_environment(SharedNotes, timeout=5))) == {"fork isolation"}


def test_zero_is_a_reward():
    class Stingy(SOUND[0]):
        def pay(self, text):
            return 0.0

    assert failures(check_environment(Stingy)) == {}


def test_rewards_of_endless_episodes_are_not_applicable():
    class Endless(SOUND[0]):
        async def step(self, actions):
            return StepResult({"player": self.observe("player")}, info=self.info(valid_action=isinstance(actions, str)))

    (result,) = (result for result in check_environment(Endless) if result.name == "rewards")
    assert result.status == "n/a"
    assert "no episode with a decision ended within 50 steps" in result.detail


@pytest.mark.parametrize(("turns", "status"), [(60, "pass"), (10**6, "FAIL")])
def test_episodes_must_end_within_the_limit_of_a_run(turns, status):
    class Long(SOUND[0]):
        max_decisions = 80

        async def step(self, actions):
            self.state.answers.append(0)
            done = len(self.state.answers) == turns
            return StepResult({} if done else {"player": self.observe("player")}, {"player": 0.0}, {"player": done})

    (result,) = (result for result in check_environment(Long) if result.name == "ends")
    assert result.status == status, result.detail
    assert ("did not end within 80 steps" if status == "FAIL" else "after more than 50 steps") in result.detail


@dataclass
class Splitless:
    tasks: object = TASKS


class Unconfigured(SOUND[0]):
    """Has no configuration; learners read the registered one."""

    def __init__(self, config=None):
        super().__init__()
        del self.config


def test_options_are_those_of_the_registered_configuration():
    registration.register("Unconfigured-v0", Unconfigured, Config)
    registration.register("Splitless-v0", Unconfigured, Splitless)
    assert failures(check_environment("Unconfigured-v0")) == failures(check_environment(Unconfigured)) == {}
    assert "The configuration has no field 'split'" in failures(check_environment("Splitless-v0"))["tasks"].detail


class Picky(SOUND[0]):
    """Ends at any word that is not in ``likes``, and draws without a seed after those."""

    likes = ("open",)

    def read(self, action):
        text = super().read(action)
        self.state.answers += [0] * (0 if text in self.likes else 3)
        return text

    async def ask(self, text):
        return random.random()

    def info(self, **more):
        return {**super().info(**more), "answers": [*self.state.answers] if len(self.state.answers) < 3 else []}


def test_given_responses_are_used_besides_the_built_in_ones():
    class Taught(Picky):
        likes = RESPONSES

    assert "determinism" not in failures(check_environment(Picky))
    assert "determinism" in failures(check_environment(Picky, responses=["open"]))
    assert "determinism" in failures(check_environment(Taught, responses=["shut"]))


def test_number_of_played_steps_is_reported():
    def played(environment, **options):
        return check_environment(environment, **options)[0].detail

    assert played(SOUND[0]) == "3 episodes of 3, 3 and 3 steps"
    assert played(Picky) == (
        "3 episodes of 1, 1 and 1 steps; if a good player's episodes are longer, add its responses with --response "
        "TEXT (repeatable)"
    )
    assert played(Picky, responses=["open"]).endswith("; with the given responses: 3 episodes of 3, 3 and 3 steps")
    assert played("single_turn_math") == "3 episodes of 1, 1 and 1 steps"
