"""The Petting environments with the interfaces of PettingZoo and Gymnasium."""

from __future__ import annotations

import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from petting_toys import NAMES, play, solver, start
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, render_test

import reason_envs
from reason_envs import registration
from reason_envs.errors import OptionError, ReasonEnvsError


def respond(env):
    return solver(env.environment)


@pytest.mark.parametrize("name", NAMES)
def test_pettingzoo_parallel_tests_pass_without_warnings(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(reason_envs.parallel_env(name), num_cycles=60)
        parallel_seed_test(lambda: reason_envs.parallel_env(name))


@pytest.mark.parametrize("name", NAMES)
def test_pettingzoo_aec_test_passes(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for advice in ("Observation is not a NumPy array", ".* space for each agent probably should be"):  # it is text
            warnings.filterwarnings("ignore", message=advice)
        api_test(reason_envs.aec_env(name), num_cycles=60)


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_checker_passes_without_warnings(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for roles in ("team", "single"):
            check_env(gym.make(registration.ENVIRONMENTS[name].id, roles=roles).unwrapped)


@pytest.mark.parametrize("name", NAMES)
def test_every_agent_observes_and_knows_whether_it_acts(name):
    env = reason_envs.parallel_env(name)
    seen, infos = env.reset(seed=3)
    first, second = env.agents
    assert [infos[agent]["acts"] for agent in env.agents] == [True, False]
    text = respond(env)
    for agent in env.agents:
        assert seen[agent] in env.observation_space(agent)
        assert seen[agent]["text"].startswith(f"{agent[:-2]} 1/4")
    seen, rewards, ended, cut, infos = env.step({first: text, second: "out of turn"})
    assert [infos[agent]["acts"] for agent in env.agents] == [False, True]
    assert text in seen[second]["text"]
    assert rewards[second] == 0
    assert not any({**ended, **cut}.values())
    assert infos[first]["out_of_turn_actions"] == 0
    seen, rewards, ended, cut, infos = env.step({first: "out of turn", second: respond(env)})
    assert ended == {first: True, second: True}
    assert not any(cut.values())
    assert rewards[first] == 0
    assert infos[first]["success"]
    assert env.agents == []
    assert env.step({}) == ({}, {}, {}, {}, {})
    env.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_action_loses_the_turn(name):
    env = reason_envs.parallel_env(name)
    env.reset(seed=3)
    for _ in range(8):
        *_, infos = env.step({})
    assert env.agents == []
    assert next(iter(infos.values()))["missing_actions"] == 8


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("roles", ["team", "single"])
def test_aec_follows_the_turns_and_rewards_of_the_core(name, roles):
    core, _ = start(name, roles=roles)
    expected = [next(iter(result.rewards.items())) for result in play(core, solver)]
    env = reason_envs.aec_env(name, roles=roles)
    env.reset(seed=3)
    order, earned = [], dict.fromkeys(env.agents, 0.0)
    for agent in env.agent_iter():
        observation, reward, terminated, truncated, info = env.last()
        earned[agent] += reward
        if terminated or truncated:
            env.step(None)
            continue
        assert info["acts"]
        assert observation == env.observe(agent)
        order.append(agent)
        env.step(respond(env))
    assert order == [f"{agent}_0" for agent, _ in expected]
    for agent in earned:
        assert earned[agent] == pytest.approx(sum(r for a, r in expected if f"{a}_0" == agent))


def test_options_tasks_and_rendering_reach_the_environment():
    task = {"question": "P.G", "answer": "RR"}
    for build in (reason_envs.parallel_env, reason_envs.aec_env):
        env = build("PettingPlanPath-v0", max_turns=1, render_mode="ansi")
        env.reset(seed=1, options={"task": task})
        assert env.environment.config.max_turns == 1
        assert "P.G" in env.render()
        env.close()


def test_pettingzoo_render_test_passes_and_human_mode_prints_each_step(capsys):
    render_test(lambda **options: reason_envs.aec_env("petting_plan_path", **options))
    capsys.readouterr()
    env = reason_envs.parallel_env("petting_plan_path", render_mode="human")
    env.reset(seed=3)
    env.step({"tool_0": "R"})
    assert capsys.readouterr().out.count("turn ") == 2
    assert env.render_mode in env.metadata["render_modes"]


@pytest.mark.parametrize("make", [reason_envs.parallel_env, reason_envs.aec_env])
@pytest.mark.parametrize("options", [["task"], "task", 3])
def test_options_of_a_wrong_type_are_refused(make, options):
    with pytest.raises(OptionError, match=r"^options=.* must be a dict"):
        make("petting_plan_path").reset(options=options)


def test_actions_of_unknown_agents_are_refused():
    env = reason_envs.parallel_env("petting_math")
    env.reset(seed=3)
    with pytest.raises(ReasonEnvsError, match=r"Unknown agent 'tool'. Did you mean 'tool_0'"):
        env.step({"tool": "x"})


def test_a_missing_reset_raises_an_error():
    parallel, cycle = reason_envs.parallel_env("petting_math"), reason_envs.aec_env("petting_math")
    for forgetful in (lambda: parallel.step({"tool_0": "x"}), lambda: cycle.step("x"), cycle.last):
        with pytest.raises(ReasonEnvsError, match="call reset first"):
            forgetful()


def test_environments_without_observe_are_rejected():
    with pytest.raises(ReasonEnvsError, match="observe"):
        reason_envs.parallel_env("reason_tree")
    with pytest.raises(ReasonEnvsError, match="Did you mean"):
        reason_envs.aec_env("petting_plan_paths")


@pytest.mark.parametrize("name", NAMES)
def test_simultaneous_games_play_like_single_ones(name):
    id = registration.ENVIRONMENTS[name].id
    env, envs = gym.make(id), gym.make_vec(id, num_envs=3)
    first, info = env.reset(seed=6)
    observations, infos = envs.reset(seed=[5, 6, 7])
    assert observations[1] == first
    assert infos["agent"][1] == info["agent"] == env.unwrapped.environment.environment.roles[0]
    for text in ("print('R')", "R", "x"):
        observations, rewards, terminated, _, infos = envs.step(("garbage", text, ""))
        observation, reward, done, cut, info = env.step(text)
        assert observations[1] == observation
        assert rewards[1] == reward == pytest.approx(sum(info["rewards"].values()))
        assert (terminated[1], cut) == (done, False)
        assert infos["progress"][1] == info["progress"]
    assert np.all(infos["unparsable_actions"] + infos["program_errors"] >= 1)
    envs.close()


def test_a_broken_import_is_an_error(monkeypatch):
    monkeypatch.delitem(sys.modules, "reason_envs.envs.petting.plan_path", raising=False)
    monkeypatch.setitem(sys.modules, "reason_envs.envs.petting.grid", None)
    assert "petting_plan_path" in registration.ENVIRONMENTS.names()
    with pytest.raises(ReasonEnvsError, match=r"cannot import .*petting\.grid"):
        reason_envs.make_environment("petting_plan_path")


def test_a_reset_that_returns_a_tuple_is_rejected(monkeypatch):
    env = reason_envs.parallel_env("petting_sudoku")

    async def reset(**options):
        return {}, {}

    monkeypatch.setattr(env.environment, "reset", reset)
    with pytest.raises(ReasonEnvsError, match=r"PettingSudoku\.reset must return a StepResult; it returned \(\{"):
        env.reset(seed=1)
