"""Rollouts of episodes: seeds, rewards that reach the right decision, and one engine call per turn."""

import asyncio
import logging
from functools import partial

import pytest
from language_toys import make_policy, problems, single_turn
from toys import Forgetful, TogetherToy, Toy, ToyConfig, TurnToy

from agents.policies.base import Policy
from agents.rollout.episodes import EpisodeSpec, _warn_of_limit, grouped, play
from agents.rollout.turn_tree import play_turn_tree
from agents.trajectory import Choice
from reason_envs.core import StepResult, derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import Sampling
from reason_envs.llm.engines.transformers.engine import TransformersEngine
from reason_envs.tasks.base import Task


class Copycat(Policy):
    """Repeats the last word of its input, and records its seeds."""

    def __init__(self):
        self.seeds = []
        self.samplings = []

    def observe(self, environment, observation):
        return environment.render_messages(observation)[-1]["content"]

    async def act(self, observations, seeds, sampling=None, *, agents):
        self.seeds += seeds
        self.samplings.append(sampling)
        texts = [o.split()[-1] for o in observations]
        return [Choice([1, 2], None, None, "stop", 0, [3], text) for text in texts]


def episodes(count, seed=0):
    return grouped([Task(f"t{i}", f"Question {i}", "") for i in range(count)], 2, seed)


def rollout(environment, policy, plan, **options):
    return asyncio.run(play(environment, policy, plan, **options))


# --- planning


def test_grouped_forms_one_group_per_position():
    task = Task("same", "q", "a")
    plan = grouped([task, task], 3, seed=5)
    assert [e.group for e in plan] == ["0:same"] * 3 + ["1:same"] * 3
    assert len({e.id for e in plan}) == len({e.seed for e in plan}) == 6
    assert plan == grouped([task, task], 3, seed=5)
    assert not {e.seed for e in plan} & {e.seed for e in grouped([task, task], 3, seed=6)}


# --- playing


class EndlessToy(TogetherToy):
    max_decisions = 7

    async def step(self, actions):
        result = await super().step(actions)
        observation = await self._observe("on")
        return StepResult(dict.fromkeys(self.agents, observation), result.rewards, info=result.info)


@pytest.mark.parametrize("rollout", [play, partial(play_turn_tree, select="best")])
def test_endless_episodes_are_truncated_with_a_warning(rollout, caplog):
    _warn_of_limit.cache_clear()
    with caplog.at_level(logging.WARNING):
        played = asyncio.run(rollout(EndlessToy(), Copycat(), episodes(2)))
    assert {(t.length, t.truncated, t.terminated) for t in played} == {(8, True, False)}  # both agents act four times
    assert all(t.final_observations.keys() == set(EndlessToy.agents) for t in played)
    (warning,) = caplog.messages
    assert "Episodes of EndlessToy do not end within max_decisions=7 decisions" in warning


def test_play_records_every_turn_of_an_episode():
    policy = Copycat()
    plan = episodes(3)
    trajectories = rollout(Toy(ToyConfig(turns=3)), policy, plan)
    assert [t.task_id for t in trajectories] == [e.task.id for e in plan]
    for episode, trajectory in zip(plan, trajectories, strict=True):
        decisions = trajectory.decisions
        assert [(d.agent, d.turn, d.reward) for d in decisions] == [("solver", t, 1.0) for t in range(3)]
        assert {d.episode_id for d in decisions} == {episode.id}
        assert {d.group_id for d in decisions} == {f"{episode.group}:solver"}
        assert (trajectory.terminated, trajectory.truncated, trajectory.metrics) == (
            True,
            False,
            {"turn": 3.0},
        )
        assert trajectory.stream_return("solver") == 3.0
    assert set(policy.seeds) == {derive_seed(e.seed, "policy", "solver", t) for e in plan for t in range(3)}


def test_play_records_truncation():
    (first, *_) = rollout(Toy(ToyConfig(truncate=True)), Copycat(), episodes(1))
    assert (first.terminated, first.truncated) == (False, True)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (TurnToy, [("first", 0), ("second", 0), ("first", 1)]),
        (TogetherToy, [("left", 0), ("right", 0), ("left", 1), ("right", 1), ("left", 2), ("right", 2)]),
    ],
)
def test_play_counts_turns_and_groups_per_agent(kind, expected):
    (trajectory, _) = rollout(kind(ToyConfig(turns=3)), Copycat(), episodes(1))
    assert [(d.agent, d.turn) for d in trajectory.decisions] == expected
    assert all(d.group_id == f"0:t0:{d.agent}" for d in trajectory.decisions)


class LatePay(TurnToy):
    """Pays the agent that did not act in the step."""

    payee = "first"

    async def step(self, actions):
        result = await super().step(actions)
        return StepResult(
            result.observations, {self.payee: 10.0 + self.state.turn}, result.terminated, info=result.info
        )


def test_play_adds_a_reward_to_the_latest_decision_of_its_agent():
    (trajectory, _) = rollout(LatePay(ToyConfig(turns=3)), Copycat(), episodes(1))
    assert [(d.agent, d.reward) for d in trajectory.decisions] == [("first", 23.0), ("second", 0.0), ("first", 13.0)]


def test_play_refuses_a_reward_before_the_first_decision():
    environment = LatePay(ToyConfig(turns=3))
    environment.payee = "second"
    with pytest.raises(ReasonEnvsError, match=r"'t0'.*'second' was paid 11\.0 before its first decision"):
        rollout(environment, Copycat(), episodes(1)[:1])


def test_play_names_a_step_without_a_result():
    with pytest.raises(ReasonEnvsError, match=r"Forgetful\.step must return a StepResult; it returned None"):
        rollout(Forgetful(), Copycat(), episodes(2))


def test_play_leaves_the_environment_unchanged():
    environment = Toy()
    rollout(environment, Copycat(), episodes(4))
    assert environment.state is None
    assert not environment.closed


def test_play_passes_sampling_to_the_policy():
    policy = Copycat()
    rollout(Toy(ToyConfig(turns=1)), policy, episodes(1), sampling=Sampling(3))
    assert policy.samplings == [Sampling(3)] * 2


# --- with a language model


@pytest.fixture
def policy(tiny_model):
    policy = make_policy(tiny_model, max_tokens=6)
    policy.engine = TransformersEngine(model=tiny_model, device="cpu")
    return policy


async def length(response, task):
    return float(len(response))


def summary(trajectories):
    return {
        t.episode_id: [(d.choice.token_ids, d.choice.prompt_ids, d.reward) for d in t.decisions] for t in trajectories
    }


def test_play_batches_64_episodes_in_one_engine_call(policy):
    environment = single_turn(problems(8), length)
    plan = grouped(list(problems(8)), 8, seed=1)
    trajectories = rollout(environment, policy, plan)
    assert (policy.engine.batcher.calls, policy.engine.batcher.requests) == (1, 64)
    assert len({tuple(t.decisions[0].choice.token_ids) for t in trajectories}) > 60
    assert all(t.decisions[0].reward == len(t.decisions[0].choice.text) for t in trajectories)


@pytest.mark.parametrize("order", [slice(None, None, -1), slice(3, 9), slice(5, 6)])
def test_play_gives_each_episode_the_same_result_in_any_batch(policy, order):
    environment = single_turn(problems(4), length)
    plan = grouped(list(problems(4)), 3, seed=2)
    expected = summary(rollout(environment, policy, plan))
    assert summary(rollout(environment, policy, plan[order])) == {e.id: expected[e.id] for e in plan[order]}


def test_play_makes_one_engine_call_per_turn(policy):
    rollout(Toy(ToyConfig(turns=3)), policy, episodes(5))
    assert (policy.engine.batcher.calls, policy.engine.batcher.requests) == (3, 30)


def test_play_accepts_a_single_episode():
    episode = EpisodeSpec("only", Task("t", "q", ""), 3, "g")
    (trajectory,) = rollout(Toy(), Copycat(), [episode])
    assert trajectory.episode_id == "only"
