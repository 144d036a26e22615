"""Sampling one step ahead of learning."""

import asyncio
import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest
from run_toys import LORA, assert_same_run, make_run, rows, train

from agents.algorithms.learner import Learner
from agents.algorithms.update import PolicyUpdate
from agents.config.compose import compose_config
from agents.training.pipeline import Pipeline
from agents.training.resolve import resolve
from reason_envs.errors import OptionError

AHEAD = ("pipeline.steps_ahead=1", "steps=5", "eval_every=0", "save_every=1")
KINDS = {"full": (), "lora": LORA}


@pytest.fixture(scope="module")
def whole(tiny_model, tmp_path_factory):
    """Complete runs, one of each kind."""
    folders = {kind: tmp_path_factory.mktemp("ahead") / kind for kind in KINDS}
    for kind, folder in folders.items():
        train(make_run(tiny_model, folder, *AHEAD, *KINDS[kind]))
    return folders


@pytest.mark.parametrize("kind", KINDS)
def test_run_ahead_equals_its_sequential_twin(whole, kind, tiny_model, tmp_path, monkeypatch):
    """The twin plays the next episodes first, and then updates: nothing runs at the same time."""
    ahead = {}

    async def update(self, trajectories, step):
        if step + 1 < self._total_steps:
            ahead[step + 1] = await self._learner.collect(step + 1)
        metrics = self._learner.update(trajectories, step)
        versions = [decision.choice.policy_version for each in trajectories for decision in each.decisions]
        return {**metrics, "staleness": step - sum(versions) / len(versions)}

    def episodes(self, step):
        async def given():
            return ahead[step] if step else await self._learner.collect(step), 1.0

        return asyncio.ensure_future(given())

    monkeypatch.setattr(Pipeline, "update", update)
    monkeypatch.setattr(Pipeline, "episodes", episodes)
    train(make_run(tiny_model, tmp_path / "twin", *AHEAD, *KINDS[kind]))
    assert_same_run(tmp_path / "twin", whole[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_one_step_old_and_weighed(whole, kind):
    found = rows(whole[kind])
    assert [row["staleness"] for row in found] == [0, 1, 1, 1, 1]
    assert found[0]["sampler_kl"] == pytest.approx(0, abs=1e-6)
    assert all(row["sampler_kl"] > 1e-7 for row in found[1:])


class SlowLearner:
    """Plays for 0.05 seconds and updates for 0.1."""

    async def collect(self, step):
        await asyncio.sleep(0.05)
        return []

    def update(self, trajectories, step):
        time.sleep(0.1)
        return {}


def test_episodes_that_were_played_ahead_tell_how_long_they_took():
    async def second_step():
        policy = SimpleNamespace(state_tensors=dict)
        pipeline = Pipeline(SlowLearner(), policy, SimpleNamespace(), steps_ahead=1, total_steps=2)
        await pipeline.episodes(0)
        await pipeline.update([], 0)
        return await pipeline.episodes(1)

    _, seconds = asyncio.run(second_step())
    assert seconds >= 0.05


@pytest.mark.parametrize(
    ("place", "kind"), [("playing", "full"), ("playing", "lora"), ("updating", "lora"), ("failing", "full")]
)
def test_interrupted_and_resumed_run_equals_the_uninterrupted_one(
    whole, place, kind, tiny_model, tmp_path, monkeypatch
):
    original = {"playing": Learner.collect, "updating": PolicyUpdate.run, "failing": PolicyUpdate.run}[place]

    def update(self, samples, step):
        if step == 2 and place == "failing":
            raise RuntimeError("the update failed")
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, samples, step)

    async def collect(self, step):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return await original(self, step)

    with monkeypatch.context() as patch:
        if place == "playing":
            patch.setattr(Learner, "collect", collect)
        else:
            patch.setattr(PolicyUpdate, "run", update)
        trainer = make_run(tiny_model, tmp_path / "run", *AHEAD, *KINDS[kind])
        if place == "failing":
            with pytest.raises(RuntimeError, match="the update failed"):
                train(trainer)
        else:
            assert train(trainer) == signal.SIGTERM
    assert len(rows(tmp_path / "run")) < 5
    train(make_run(tiny_model, tmp_path / "run", *AHEAD, *KINDS[kind], resuming=True))
    assert_same_run(tmp_path / "run", whole[kind])


def test_finished_run_continues_with_more_steps_as_if_it_had_not_ended(whole, tiny_model, tmp_path):
    train(make_run(tiny_model, tmp_path / "run", *AHEAD, "steps=3"))
    train(make_run(tiny_model, tmp_path / "run", *AHEAD, resuming=True))
    assert_same_run(tmp_path / "run", whole["full"])


def test_next_episodes_are_played_during_the_update(tiny_model, tmp_path, monkeypatch):
    begun, collect, update = threading.Event(), Learner.collect, Learner.update

    async def collecting(self, step):
        if step == 1:
            begun.set()
        return await collect(self, step)

    def updating(self, trajectories, step):
        assert begun.wait(timeout=60), "the episodes of the next step were not started"
        return update(self, trajectories, step)

    monkeypatch.setattr(Learner, "collect", collecting)
    monkeypatch.setattr(Learner, "update", updating)
    train(make_run(tiny_model, tmp_path / "run", *AHEAD, "steps=2"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["pipeline.steps_ahead=2"], r"pipeline.steps_ahead=2 must lie in \[0, 1\]"),
        (["pipeline.steps_ahead=1", "algo.correction=off"], "set algo.correction=token, or pipeline.steps_ahead=0"),
        (["pipeline.steps_ahead=1", "env=reason_tree"], "needs a language policy.*set pipeline.steps_ahead=0"),
    ],
)
def test_steps_ahead_names_what_it_needs(options, message):
    with pytest.raises(OptionError, match=message):
        resolve(compose_config(options))


def test_steps_ahead_chooses_importance_weights():
    assert resolve(compose_config(["pipeline.steps_ahead=1"])).config.algo.correction == "token"
    assert resolve(compose_config([])).config.algo.correction == "auto"
