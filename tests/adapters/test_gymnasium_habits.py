"""What a user of Gymnasium tries first: help, render modes, copies, specs, strict actions and wrong calls."""

import copy
import pickle
import pydoc
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

import reason_envs
from reason_envs import StepResult
from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.registration import EnvironmentEntry
from reason_envs.tasks.base import Task

IDS = ("SingleTurnMath-v0", "ReasonTree-v0", "ReasonTreePaper-v0", "PettingSudoku-v0")


@pytest.fixture(scope="module", params=IDS)
def env(request):
    made = gym.make(request.param)
    yield made
    made.close()


def equal(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return one == other if isinstance(one, str) else np.allclose(one, other, atol=1e-5)  # new models, no prefix cache


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("call", ["step", "render", "action_masks"])
def test_calls_before_reset_raise_reset_needed(id, call):
    env = gym.make(id, render_mode="ansi").unwrapped
    if call == "action_masks" and "Tree" not in id:
        return
    with pytest.raises(ResetNeeded, match="call reset first"):
        env.step(env.action_space.sample()) if call == "step" else getattr(env, call)()
    env.close()


def test_help_shows_the_actions_observations_and_rewards_of_the_environment(env):
    text = pydoc.plain(pydoc.render_doc(env))
    own = type(env.unwrapped.environment)
    inner = getattr(env.unwrapped.environment, "environment", None)
    assert (type(inner) if inner else own).__doc__.split("\n")[0] in text
    assert text.count(f"Actions: {env.action_space}") == text.count(f"Observations: {env.observation_space}"[:60]) == 1


@pytest.mark.parametrize("kind", [StepResult, Task])
def test_help_of_results_and_tasks_lists_their_fields(kind):
    text = pydoc.plain(pydoc.render_doc(kind)).split("Fields: ")[1].split("Method")[0]
    assert all(f"``{name}``" in text for name in kind.__dataclass_fields__)


def test_registry_lists_our_ids_under_our_name():
    printed = gym.pprint_registry(disable_print=True)
    ours = printed.split("===== reason_envs =====\n")[1].split("=====")[0].split()
    built_in = EnvironmentEntry.built_in("reason_envs", "reason_envs.environments").values()
    assert len(built_in) == 10
    assert {entry.id for entry in built_in} <= set(ours)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("after", [0, 1], ids=["at the start", "inside an episode"])
def test_copies_continue_like_the_original(env, duplicate, after):
    env.reset(seed=5)
    if "SingleTurn" not in env.spec.id:
        for _ in range(after):
            env.step(env.action_space.sample())
    twin, action = duplicate(env), env.action_space.sample()
    assert twin.unwrapped is not env.unwrapped
    assert twin.spec.id == env.spec.id
    one, other = env.step(action), twin.step(action)
    assert equal(one[0], other[0])
    assert one[1:4] == pytest.approx(other[1:4], abs=1e-5)
    assert equal(env.reset()[0], twin.reset()[0])  # the next seed of the same sequence


def test_specs_make_the_environment_again(env):
    for spec in (env.spec, EnvSpec.from_json(env.spec.to_json()), pickle.loads(pickle.dumps(env.spec))):
        again = gym.make(spec)
        assert equal(again.reset(seed=9)[0], env.reset(seed=9)[0])
        again.close()


@pytest.mark.parametrize("mode", AutoresetMode)
def test_make_vec_takes_the_autoreset_mode(mode):
    batched = gym.make_vec("SingleTurnMath-v0", num_envs=2, autoreset_mode=mode)
    assert batched.metadata["autoreset_mode"] is mode
    options = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": mode}}  # Gymnasium's own vector
    separate = gym.make_vec("SingleTurnMath-v0", num_envs=2, **options)
    for envs in (batched, separate):
        envs.reset(seed=1)
        assert envs.step(("a", "b"))[2].tolist() == [True, True]
        envs.close()


def test_human_mode_prints_and_list_modes_collect(capsys):
    env = gym.make("SingleTurnMath-v0", render_mode="human")
    assert env.render_mode in env.metadata["render_modes"]
    question, _ = env.reset(seed=1)
    env.step("no idea")
    out = capsys.readouterr().out
    assert out.count(f"Problem: {question}") == 2
    assert "Response: no idea" in out
    listed = gym.make("SingleTurnMath-v0", render_mode="ansi_list")
    listed.reset(seed=1)
    listed.step("no idea")
    assert [text.count("Response") for text in listed.render()] == [0, 1]
    pictures = gym.make("PettingSudoku-v0", render_mode="rgb_array_list")
    pictures.reset(seed=1)
    assert pictures.render()[0].shape[2] == 3


def test_actions_outside_of_the_space_are_counted_and_warned_about_once():
    env = gym.make("ReasonTree-v0")
    env.reset(seed=0)
    with pytest.warns(UserWarning, match=r"The action 7 \(int\) is not in the action space Discrete\(4\)"):
        env.step(7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env.step(-1)
        env.step(0)
    assert env.unwrapped.invalid_actions == 2
    strict = gym.make("ReasonTree-v0", strict=True)
    strict.reset(seed=0)
    with pytest.raises(ReasonEnvsError, match=r"The action 7 \(int\) is not in the action space Discrete\(4\): choose"):
        strict.step(7)


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_reset_options_are_checked(make):
    env = make("SingleTurnMath-v0")
    with pytest.raises(OptionError, match=r"options=\['task'\] must be a dict"):
        env.reset(options=["task"])
    with pytest.raises(ReasonEnvsError, match=r"Unknown option of reset 'tsk'. Did you mean 'task'?"):
        env.reset(options={"tsk": 1})
    env.reset(options={"task": {"question": "1 + 1", "answer": "2"}})


def test_an_environment_declares_its_own_reset_options():
    core = reason_envs.make_environment("single_turn_math")
    core.reset_options = ("task", "level")
    from reason_envs.adapters.gymnasium import GymnasiumAdapter

    GymnasiumAdapter(core).reset(options={"level": 3})


def test_make_shows_no_progress_bars(capfd):
    gym.make("ReasonTree-v0").close()
    out, err = capfd.readouterr()
    assert out == err == ""
