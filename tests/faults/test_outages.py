"""Engines that fail during episodes: counted and left out, never paid; where most fail, the error ends the run."""

from __future__ import annotations

import asyncio
import logging

import pytest
from run_toys import make_trainer, rows, train
from workflow_toys import ASK, CODE, MATH, RETURN, make_env, play, program

from agents.algorithms.learner import Learner
from agents.evaluation.evaluate_policy import summarise
from agents.rollout.episodes import grouped, without_failures
from agents.rollout.episodes import play as play_episodes
from agents.trajectory import Choice
from reason_envs.envs.workflow.environment import WorkflowExecution
from reason_envs.errors import EngineError, RewardError
from reason_envs.llm.engines.scripted import ScriptedEngine

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
