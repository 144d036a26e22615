"""Engines that fail during episodes: counted and left out, never paid; where most fail, the error ends the run."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest
from run_toys import make_run, make_trainer, rows, train
from scripted_engine import ScriptedEngine
from workflow_toys import ASK, CODE, MATH, RETURN, make_env, play, program

from agents.algorithms.learner import Learner
from agents.evaluation.evaluate_policy import summarise
from agents.rollout.episodes import grouped, without_failures
from agents.rollout.episodes import play as play_episodes
from agents.rollout.turn_tree import play_turn_tree
from agents.trajectory import Choice
from reason_envs.envs.workflow.environment import WorkflowExecution
from reason_envs.errors import EngineError, ReasonEnvsError, RewardError
from reason_envs.rewards import Reward, RewardFunction
from reason_envs.tasks import Task

FILTERED = "a sample ended with finish_reason='content_filter'"


class Failing(ScriptedEngine):
    """An engine whose requests of some numbers fail."""

    def __init__(self, fails):
        super().__init__(r"\boxed{27}")
        self.fails, self.number = fails, -1

    async def generate(self, request):
        self.number += 1
        if self.fails(self.number):
            raise EngineError(FILTERED)
        return await super().generate(request)


class Writer:
    """A policy that always writes the same workflow."""

    def observe(self, environment, observation):
        return environment.render_messages(observation)

    def fits(self, observation):
        return True

    def action(self, environment, choice):
        return environment.parse_action(choice.text)

    async def act(self, observations, seeds, sampling, *, agents):
        return [Choice([1], None, None, "stop", 0, [1], program(ASK + RETURN)) for _ in observations]


def played(fails, samples=8):
    environment = make_env(Failing(fails))
    return asyncio.run(play_episodes(environment, Writer(), grouped([MATH], samples, 0)))


def test_failed_episodes_are_counted_left_out_and_not_paid(caplog):
    with caplog.at_level(logging.WARNING):
        trajectories = played(lambda number: number in (1, 4))
    assert f"2 of 8 episodes failed and are not trained on. The first error: {FILTERED}" in caplog.text
    kept = without_failures(trajectories)
    assert len(kept) == 6
    assert {t.total_reward for t in kept} == {1.0}
    assert {t.metrics["engine_failures"] for t in kept} == {0.25}
    assert [t.failure for t in trajectories if t not in kept] == [FILTERED] * 2
    result = summarise(trajectories, 8, 0)
    assert result.accuracy == 1.0  # of the six that did not fail
    assert result.engine_failures == 0.25


def test_environment_of_a_failed_episode_is_closed(monkeypatch):
    closed = []
    monkeypatch.setattr(WorkflowExecution, "close", lambda environment: closed.append(environment))
    played(lambda number: number in (1, 4))
    assert len(set(map(id, closed))) == 8


def rewarded(fails):
    numbers = iter(range(8))

    def unlucky(response, task):
        if next(numbers) in fails:
            raise KeyError("unlucky")
        return 1.0

    environment = make_env(ScriptedEngine("27"), reward=unlucky)
    return asyncio.run(play_episodes(environment, Writer(), grouped([MATH], 8, 0)))


def test_episodes_whose_reward_raises_are_counted_apart_and_left_out(caplog):
    with caplog.at_level(logging.WARNING):
        kept = without_failures(rewarded({1, 4}))
    assert "unlucky raised KeyError: 'unlucky' (" in caplog.text
    assert f"for task {MATH.id!r} and the response '27'" in caplog.text
    assert len(kept) == 6
    assert {(t.metrics["reward_failures"], "engine_failures" in t.metrics) for t in kept} == {(0.25, False)}


class Unlucky(RewardFunction):
    """Raises at its calls of some numbers, and otherwise pays what is given."""

    def __init__(self, fails, pays=1.0):
        self.fails, self.pays, self.number = fails, pays, -1

    async def __call__(self, response, task, seed):
        self.number += 1
        if self.fails(self.number):
            raise KeyError("unlucky")
        return self.pays


def test_rewards_of_a_class_fail_like_those_of_a_function(caplog):
    environment = make_env(ScriptedEngine("27"), reward=Unlucky(lambda number: number in (1, 4)))
    with caplog.at_level(logging.WARNING):
        played = asyncio.run(play_episodes(environment, Writer(), grouped([MATH], 8, 0)))
    assert f"{__name__}.Unlucky raised KeyError: 'unlucky' (" in caplog.text
    assert f"for task {MATH.id!r} and the response '27'" in caplog.text
    assert {t.metrics["reward_failures"] for t in without_failures(played)} == {0.25}


@pytest.mark.parametrize("pays", [float("nan"), "1", None, (1.0, 2), Reward(float("inf"))], ids=str)
def test_rewards_of_a_class_are_checked(pays):
    with pytest.raises(ReasonEnvsError, match=r"Unlucky returned .* for task 'm' .* must return a finite number"):
        asyncio.run(Unlucky(lambda number: False, pays)("1", Task("m", "?", "1", {}), 0))


def test_rewards_of_a_class_may_be_numbers():
    assert asyncio.run(Unlucky(lambda number: False, 2)("1", MATH, 0)) == Reward(2.0, {})
    assert asyncio.run(Unlucky(lambda number: False, (2, {"a": 1}))("1", MATH, 0)) == Reward(2.0, {"a": 1})


def test_engine_errors_of_a_reward_stay_engine_errors():
    class Judge(RewardFunction):
        async def __call__(self, response, task, seed):
            raise EngineError(FILTERED)

    with pytest.raises(EngineError, match=FILTERED):
        asyncio.run(Judge()("1", MATH, 0))


def grown(reward, tasks=4, engine="27"):
    environment = make_env(engine if isinstance(engine, ScriptedEngine) else ScriptedEngine(engine), reward=reward)
    episodes = grouped([replace(MATH, id=f"m{number}") for number in range(tasks)], 2, 0)
    return asyncio.run(play_turn_tree(environment, Writer(), episodes, "best"))


def test_turn_trees_that_fail_are_counted_and_left_out(monkeypatch, caplog):
    closed = []
    monkeypatch.setattr(WorkflowExecution, "close", lambda environment: closed.append(environment))
    with caplog.at_level(logging.WARNING):
        played = grown(Unlucky(lambda number: number == 3))
    assert "1 of 4 episodes failed and are not trained on" in caplog.text
    kept = without_failures(played)
    assert len(kept) == 3
    assert {t.metrics["reward_failures"] for t in kept} == {0.25}
    assert len(set(map(id, closed))) == 4 * (1 + 2)
    assert sum(t.metrics["engine_failures"] for t in grown("tiers", engine=Failing(lambda n: n == 3)) if t.failure) == 1


def test_turn_trees_that_mostly_fail_end_the_run():
    with pytest.raises(RewardError, match="4 of 4 episodes failed, the first one with: The reward function"):
        grown(Unlucky(lambda number: True))
    with pytest.raises(EngineError, match=f"4 of 4 episodes failed, the first one with: {FILTERED}"):
        grown("tiers", engine=Failing(lambda number: True))


def test_tokens_of_failed_episodes_are_counted():
    for played in (rewarded({1, 4}), grown(Unlucky(lambda number: number == 3))):
        tokens = {bool(t.failure): t.generated_tokens for t in played}
        assert tokens[True] > 0


@pytest.mark.parametrize("algo", ["grpo", "at_grpo", "ppo"])
def test_training_goes_on_when_a_reward_of_a_class_raises(algo, tiny_model, tmp_path):
    reward = Unlucky(lambda number: number in (1, 13, 20))
    arguments = ["save_every=1", "eval_every=0", f"algo={algo}", "steps=3"]
    trainer = make_run(tiny_model, tmp_path / algo, *arguments)
    trainer.run.environment.reward = reward
    train(trainer)
    assert len(rows(tmp_path / algo)) >= 3
    assert any("episode/reward_failures" in row for row in rows(tmp_path / algo))


def test_a_reward_that_mostly_raises_ends_the_run():
    with pytest.raises(RewardError, match=r"5 of 8 episodes failed, the first one with: The reward function .*unlucky"):
        rewarded(range(5))


def test_episodes_without_failures_have_no_metric_of_them():
    kept = without_failures(played(lambda number: False))
    assert len(kept) == 8
    assert not any("engine_failures" in t.metrics for t in kept)


@pytest.mark.parametrize("fails", [lambda number: True, lambda number: number % 8 < 5], ids=["all", "most"])
def test_most_failures_are_the_error_of_the_engine(fails):
    with pytest.raises(EngineError, match=f"episodes failed, the first one with: {FILTERED}"):
        played(fails)


@pytest.mark.parametrize("eval_every", [0, 2])
def test_run_whose_executor_is_down_stops_before_it_learns(tiny_model, tmp_path, monkeypatch, eval_every):
    updates = []
    monkeypatch.setattr(Learner, "update", lambda *arguments: updates.append(arguments))
    arguments = [
        "env=workflow",
        "env.engine={name: openai, model: m, base_url: 'http://127.0.0.1:9/v1', max_retries: 0}",
        f"policy.model={tiny_model}",
        "policy.max_tokens=8",
        f"output_dir={tmp_path / 'run'}",
        "steps=2",
        f"eval_every={eval_every}",
        "eval_tasks=2",
        "algo.tasks_per_step=2",
        "algo.samples_per_task=2",
        "policy.device=cpu",
    ]
    with pytest.raises(EngineError, match="the connection failed"):
        train(make_trainer(arguments))
    assert not updates
    assert not (tmp_path / "run" / "metrics.jsonl").exists() or rows(tmp_path / "run") == []


RIGHT = "def f(a):\n    return 2 * a"
WRAPPED = {
    "bare": repr(RIGHT),
    "fenced": repr(f"```python\n{RIGHT}\n```"),
    "fenced with words": repr(f"Here it is:\n```py\n{RIGHT}\n```\nDone."),
    "blanks": repr(f"\n\n{RIGHT}\n\n"),
    "joined": " + ".join(repr(line + "\n") for line in RIGHT.split("\n")),
    "formatted": "f'def f(a):\\n    return {1 + 1} * a'",
    "behind the problem": f"problem + '\\n```python\\n' + {RIGHT!r} + '\\n```'",
}


@pytest.mark.parametrize("name", WRAPPED)
def test_code_that_a_program_wrote_itself_earns_nothing(name):
    for body in (
        f"a = await self.t(problem=problem, solution={WRAPPED[name]}, entry_point='f')\nreturn a['solution'], 0",
        f"x = {WRAPPED[name]}\na = await self.e(solutions=[x, x, 'b'], problem=problem)\nreturn a['response'], 0",
        f"x = {WRAPPED[name]}\na = await self.e(solutions=[x, x, 'b'], problem=problem)\n"
        "b = await self.t(problem=problem, solution=a['response'], entry_point='f')\nreturn b['solution'], 0",
    ):
        end = play(make_env("nothing"), CODE, program(body, "t=Test", "e=ScEnsemble"))
        assert (end.info["verdict"], end.rewards) == ("ok", {"writer": 0.0})
        assert end.info["executor_calls"] == 0


def test_code_of_an_operator_that_passes_its_test_still_earns():
    body = (
        "a = await self.g(problem=problem, entry_point='f', instruction='Write.')\n"
        "b = await self.t(problem=problem, solution=a['response'], entry_point='f')\nreturn b['solution'], 0"
    )
    end = play(make_env(f"```python\n{RIGHT}\n```"), CODE, program(body, "g=CustomCodeGenerate", "t=Test"))
    assert end.rewards == {"writer": 1.0}
