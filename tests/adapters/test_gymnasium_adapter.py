"""Gymnasium's own checker, make, make_vec and the three autoreset modes on toy environments."""

from __future__ import annotations

import asyncio
import multiprocessing
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from toys import CountingEngine, Forgetful, ForgetfulPair, TogetherToy, Toy, ToyConfig, TurnToy

import reason_envs
from reason_envs.adapters import loop
from reason_envs.adapters.controller import CONTROLLER, Controller
from reason_envs.adapters.gymnasium import GymnasiumAdapter, GymnasiumVectorAdapter
from reason_envs.errors import ReasonEnvsError
from reason_envs.spaces import UnicodeText

TOYS = {"Toy-v0": Toy, "TurnToy-v0": TurnToy, "TogetherToy-v0": TogetherToy}


@pytest.fixture(autouse=True, scope="module")
def _registered():
    for id, toy in TOYS.items():
        reason_envs.register(id, toy, ToyConfig)


def answer(environment):
    return str(environment.state.answers[-1])


@pytest.mark.parametrize("id", TOYS)
def test_gymnasium_checker_passes_without_warnings(id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(id, engine=CountingEngine()).unwrapped)


def test_make_shares_objects_also_through_the_spec():
    engine = CountingEngine()
    env = gym.make("Toy-v0", engine=engine, turns=5, render_mode="ansi")
    again = env.spec.make()
    assert env.unwrapped.environment.engine is again.unwrapped.environment.engine is engine
    assert again.unwrapped.environment.config.turns == 5
    env.reset(seed=1)
    assert env.render() == str(env.unwrapped.environment.state.answers)


def test_gymnasium_plays_an_episode():
    env = gym.make("Toy-v0", turns=2)
    first, info = env.reset(seed=4)
    core = env.unwrapped.environment
    assert (first, info) == (f"turn 0: {answer(core)}", {"turn": 0})
    assert env.step(answer(core))[1:] == (1.0, False, False, {"turn": 1})
    final, *rest = env.step("wrong")
    assert (final, rest) == (f"turn 2: {answer(core)}", [0.0, True, False, {"turn": 2}])
    env.close()
    assert core.closed


def test_truncated_episodes_are_not_terminated():
    env = gym.make("Toy-v0", turns=1, truncate=True)
    env.reset(seed=4)
    assert env.step("x")[2:4] == (False, True)


def test_adapter_works_inside_a_running_event_loop():
    async def notebook():
        return gym.make("Toy-v0").reset(seed=3)

    assert asyncio.run(notebook()) == gym.make("Toy-v0").reset(seed=3)


def test_vector_adapter_makes_one_engine_call_per_step():
    engine = CountingEngine()
    envs = gym.make_vec("Toy-v0", num_envs=64, engine=engine)
    observations, infos = envs.reset(seed=100)
    assert observations in envs.observation_space
    assert infos["turn"].tolist() == [0] * 64
    for _ in range(5):
        envs.step(envs.action_space.sample())
    assert engine.ask.calls == 6
    assert [seed for seed, _, _ in engine.batches[0]] == list(range(100, 164))
    envs.close()
    assert all(e.closed for e in envs.environments)


def test_vector_adapter_plays_like_single_environments():
    env, envs = gym.make("Toy-v0"), gym.make_vec("Toy-v0", num_envs=3)
    observations, _ = envs.reset(seed=[5, 6, 7])
    assert observations[1] == env.reset(seed=6)[0]
    for _ in range(3):
        observations, rewards, terminated, truncated, infos = envs.step(("a", "b", "c"))
        observation, *outcome, info = env.step("b")
        assert observations[1] == observation
        assert [rewards[1], terminated[1], truncated[1]] == outcome
        assert infos["turn"][1] == info["turn"]
    assert terminated.tolist() == [True] * 3


def test_next_step_autoreset_ignores_the_action_after_the_end():
    envs = gym.make_vec("Toy-v0", num_envs=2, turns=1)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    first, _ = envs.reset(seed=0)
    final, _, terminated, _, _ = envs.step(("a", "a"))
    assert terminated.all()
    assert [o[:6] for o in final] == ["turn 1"] * 2
    restarted, rewards, terminated, _, infos = envs.step(("ignored", "ignored"))
    assert not terminated.any()
    assert rewards.tolist() == [0, 0]
    assert [o[:6] for o in restarted] == ["turn 0"] * 2
    assert infos["turn"].tolist() == [0, 0]
    assert restarted != first


def test_same_step_autoreset_returns_the_final_observation_in_infos():
    envs = gym.make_vec("Toy-v0", num_envs=2, turns=1, autoreset_mode="SameStep")
    envs.reset(seed=0)
    observations, _, terminated, _, infos = envs.step(("a", "a"))
    assert terminated.all()
    assert [o[:6] for o in observations] == ["turn 0"] * 2
    assert [o[:6] for o in infos["final_obs"]] == ["turn 1"] * 2
    assert infos["final_info"]["turn"].tolist() == [1, 1]
    assert infos["turn"].tolist() == [0, 0]
    assert infos["_final_obs"].all()


def test_disabled_autoreset_needs_a_reset_mask():
    envs = gym.make_vec("Toy-v0", num_envs=2, turns=1, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    ended, *_ = envs.step(("a", "a"))
    with pytest.raises(ReasonEnvsError, match=r"Slots \[0, 1\] have no episode"):
        envs.step(("a", "a"))
    options = {"reset_mask": np.array([False, True])}
    observations, infos = envs.reset(options=options)
    assert observations[0] == ended[0]
    assert observations[1][:6] == "turn 0"
    assert infos["_turn"].tolist() == [False, True]
    assert "reset_mask" in options


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.reset(seed=[1]), "1 seeds for 2 environments"),
        (lambda e: e.reset(options={"reset_mask": np.zeros(2, bool)}), "at least one True"),
        (lambda e: e.step(("a",)), "1 actions for 2"),
        (lambda e: gym.make_vec("Toy-v0", autoreset_mode="SameStp"), "Did you mean 'SameStep'"),
        (lambda e: gym.make("Toy-v0", turnz=1), "Did you mean 'turns'"),
        (
            lambda e: gym.make("Toy-v0", render_mode="html"),
            "render_mode='html' is unknown",
        ),
    ],
)
def test_adapters_explain_wrong_use(call, message):
    with pytest.raises(ReasonEnvsError, match=message):
        call(gym.make_vec("Toy-v0", num_envs=2))


def test_controller_acts_for_the_agent_whose_turn_it_is():
    env = gym.make("TurnToy-v0", turns=2)
    _, info = env.reset(seed=1)
    assert (info["agent"], info["rewards"]) == ("first", {"first": 0, "second": 0})
    right = answer(env.unwrapped.environment.environment)
    _, reward, terminated, _, info = env.step(right)
    assert (reward, terminated) == (1.0, False)
    assert (info["agent"], info["rewards"]) == ("second", {"first": 1.0, "second": 0})
    *_, terminated, truncated, info = env.step("x")
    assert (terminated, truncated) == (True, False)
    assert "agent" not in info


def test_controller_asks_simultaneous_agents_one_after_the_other():
    core = TogetherToy(ToyConfig(turns=1))
    env = Controller(core)

    async def play():
        first = await env.reset(seed=1)
        right = answer(core)
        fork = env.fork()
        second = await env.step({CONTROLLER: right})
        assert [r.info["agent"] for r in (first, second)] == ["left", "right"]
        assert core.state.turn == 0
        end = await env.step({CONTROLLER: right})
        assert (end.rewards, end.info["rewards"]) == ({CONTROLLER: 2.0}, {"left": 1.0, "right": 1.0})
        assert end.done
        assert end.terminated == {CONTROLLER: True}
        assert (await fork.step({CONTROLLER: right})) == second

    asyncio.run(play())


def test_controller_counts_episodes_of_the_controlled_environment():
    played, counted = (Controller(TurnToy(ToyConfig(turns=1))) for _ in range(2))

    async def play():
        await played.reset(seed=4)
        await played.reset()
        counted.episode_seed(4)
        counted.episode_seed(None)
        assert (await counted.reset()) == (await played.reset())
        assert counted.state.seed == played.state.seed != 4

    asyncio.run(play())


def test_controller_without_an_episode_raises_an_error():
    env = Controller(TurnToy(ToyConfig(turns=1)))

    async def play():
        for _ in range(2):
            with pytest.raises(ReasonEnvsError, match="call reset first"):
                await env.step({CONTROLLER: "x"})
            await env.reset(seed=1)
            await env.step({CONTROLLER: "x"})

    asyncio.run(play())


@pytest.mark.parametrize("toy", [Forgetful, ForgetfulPair])
def test_adapters_reject_a_step_without_a_result(toy):
    for env, action in ((GymnasiumAdapter(toy()), "a"), (GymnasiumVectorAdapter(toy(), 2), ["a", "a"])):
        env.reset(seed=1)
        with pytest.raises(ReasonEnvsError, match=rf"{toy.__name__}\.step must return a StepResult; it returned None"):
            [env.step(action) for _ in toy.agents]


def test_controller_rejects_agents_with_different_spaces():
    class Uneven(TurnToy):
        def action_space(self, agent):
            return UnicodeText(5 if agent == "first" else 6)

    with pytest.raises(ReasonEnvsError, match="make_environment"):
        Controller(Uneven())


def test_a_synchronous_call_inside_an_environment_raises_an_error():
    async def nested():
        loop.run(asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="would block forever"):
        loop.run(nested())


def _forked(queue):
    try:
        loop.run(asyncio.sleep(0))
    except RuntimeError as error:
        queue.put(str(error))


def test_use_after_a_fork_raises_an_error_with_the_fix():
    loop.run(asyncio.sleep(0))
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Python warns of forks beside threads, which this test makes
        process = context.Process(target=_forked, args=(queue,))
        process.start()
    process.join(20)
    assert "was forked from" in queue.get()
