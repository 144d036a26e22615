"""SingleTurnMath-v0: rewards, info, forks and Gymnasium."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env

import reason_envs
from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards import RewardConfig
from reason_envs.tasks import Task, TaskSet
from reason_envs.tasks.task_list import ListTaskSet


class Sums(TaskSet):
    """Problem i asks for i + 1."""

    name, split = "sums", "train"

    def __len__(self):
        return 50

    def __getitem__(self, index):
        return Task(f"sums/{index}", f"What is {index} + 1?", str(index + 1))


def play(response, options=None, seed=0, **config):
    env = reason_envs.make_environment("single_turn_math", **{"tasks": Sums(), **config})

    async def episode():
        start = await env.reset(seed=seed, options=options)
        return start, await env.step({"solver": response})

    return asyncio.run(episode())


TASK = {"question": "What is a half?", "answer": r"\frac{1}{2}"}


@pytest.mark.parametrize(
    ("response", "reward", "correct", "no_answer"),
    [
        (r"So \boxed{0.5}", 1.0, True, False),
        (r"First \boxed{3}, no: \boxed{\frac{2}{4}}", 1.0, True, False),
        (r"So \boxed{2}", -1.0, False, False),
        ("One half, 0.5", -0.5, False, True),
        ("", -0.5, False, True),
    ],
)
def test_reward_is_paid_by_grade(response, reward, correct, no_answer):
    start, end = play(response, {"task": TASK})
    assert start.observations == {"solver": TASK["question"]}
    assert end.rewards == {"solver": reward}
    assert (end.done, end.terminated, end.truncated) == (True, {"solver": True}, {"solver": False})
    assert {"task_id", "correct", "extracted", "reason", "no_answer", "valid_action"} == set(end.info)
    assert (end.info["correct"], end.info["no_answer"]) == (correct, no_answer)
    assert end.info["task_id"] == start.info["task_id"]


@pytest.mark.parametrize("action", [None, 7, b"5", r"\boxed{1}" + "x" * 100])
def test_invalid_actions_count_as_missing_answers(action):
    _, end = play(action, {"task": {"question": "?", "answer": "1"}}, max_response_chars=50)
    assert end.rewards == {"solver": -0.5}
    assert (end.info["valid_action"], end.info["no_answer"]) == (False, True)


def test_task_is_a_function_of_the_seed():
    tasks = Sums()
    ids = [play("", seed=seed)[0].info["task_id"] for seed in range(20)]
    assert ids == [tasks.sample(seed).id for seed in range(20)]
    assert len(set(ids)) > 10
    default = reason_envs.make_environment("single_turn_math")
    assert asyncio.run(default.reset(seed=3)) == asyncio.run(default.reset(seed=3))


def half(response, task):
    return 0.25, {"length": len(response), "gold": task.answer}


@pytest.mark.parametrize(
    ("reward", "value"),
    [
        ({"wrong": -3}, -3.0),
        (RewardConfig(wrong=-2.0), -2.0),
        ("math", -1.0),
        (half, 0.25),
        (f"{__name__}:half", 0.25),
    ],
)
def test_reward_option_takes_configs_names_and_functions(reward, value):
    assert play(r"\boxed{-7}", reward=reward)[1].rewards == {"solver": value}


def test_random_reward_is_a_fair_coin_and_reports_the_grade():
    ends = [play(r"\boxed{-7}", {"task": TASK}, seed=s, reward={"name": "random"})[1] for s in range(40)]
    values = [end.rewards["solver"] for end in ends]
    assert set(values) == {1.0, -1.0}
    assert 8 < values.count(1.0) < 32
    assert not any(end.info["correct"] for end in ends)


def test_forks_share_the_task_and_are_graded_separately():
    env = reason_envs.make_environment("single_turn_math", tasks=Sums())
    asyncio.run(env.reset(seed=1))
    fork = env.fork()
    assert fork.task is env.task
    assert fork.tasks is env.tasks
    right = asyncio.run(fork.step({"solver": rf"\boxed{{{env.task.answer}}}"}))
    assert right.rewards == {"solver": 1.0}
    asyncio.run(fork.reset(seed=2))
    assert asyncio.run(env.step({"solver": r"\boxed{-1}"})).rewards == {"solver": -1.0}


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ({"reward": {"wronk": 1}}, None, "Did you mean 'wrong'"),
        ({}, {"task": {"question": "?"}}, "answer must be given"),
        ({}, {"task": {"question": "?", "answr": "1"}}, "Did you mean 'answer'"),
        ({}, {"task": "chain_sum"}, "question and answer"),
        ({}, {"task": {"question": "?", "answer": 5}}, "answer=5 must be of type str"),
        ({}, {"task": {"question": "x" * 100_001, "answer": "1"}}, "100001 characters"),
        ({"split": "trian"}, None, "train"),
        ({"tasks": "chain_sun"}, None, "Did you mean 'chain_sum'"),
    ],
)
def test_errors_name_the_wrong_input(config, options, message):
    if "split" in config:
        config["tasks"] = "chain_sum"
    with pytest.raises(ReasonEnvsError, match=message):
        play("", options, **config)


def test_step_without_an_episode_is_an_error():
    env = reason_envs.make_environment("single_turn_math", tasks=Sums())
    with pytest.raises(ReasonEnvsError, match="call reset first"):
        asyncio.run(env.step({"solver": ""}))
    asyncio.run(env.reset(options={"unknown": 1}))
    asyncio.run(env.step({"solver": ""}))
    with pytest.raises(ReasonEnvsError, match="call reset first"):
        asyncio.run(env.step({"solver": ""}))


def test_messages_have_roles():
    env = reason_envs.make_environment("single_turn_math", tasks=Sums())
    assert env.render_messages("1 + 1?") == [{"role": "user", "content": "1 + 1?"}]
    env = reason_envs.make_environment("single_turn_math", tasks=Sums(), system_prompt="Think.")
    assert [m["role"] for m in env.render_messages("?")] == ["system", "user"]
    assert env.parse_action("any \n text") == "any \n text"


def worked(*solved):
    rows = [
        Task(f"t{i}", f"Question {i}?", str(i), {"solution": f"Add up to {i}."} if i in solved else {})
        for i in range(6)
    ]
    return ListTaskSet("worked", "train", rows)


def test_examples_are_shown_with_their_solutions_before_the_problem():
    env = reason_envs.make_environment("single_turn_math", tasks=worked(1, 2, 3), system_prompt="Think.", examples=2)
    messages = env.render_messages("Question 5?")
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[-1]["content"] == "Question 5?"
    for question, solution in zip(messages[1:-1:2], messages[2:-1:2], strict=True):
        number = question["content"].removeprefix("Question ").removesuffix("?")
        assert number in "123"
        assert solution["content"] == f"Add up to {number}.\n\\boxed{{{number}}}"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_examples_leave_out_the_problem_itself(number):
    env = reason_envs.make_environment("single_turn_math", tasks=worked(1, 2, 3), examples=2)
    asked = [m["content"] for m in env.render_messages(f"Question {number}?") if m["role"] == "user"]
    assert len(asked) == len({*asked}) == 3


def test_examples_need_worked_solutions():
    env = reason_envs.make_environment("single_turn_math", tasks=worked(1, 2, 3), examples=3)
    with pytest.raises(ReasonEnvsError, match=r"examples=3 needs 4 problems with a solution.*has 3: set examples=0"):
        env.render_messages("Question 5?")


def test_render_shows_problem_response_and_reward():
    env = gym.make("SingleTurnMath-v0", tasks=Sums(), render_mode="ansi")
    env.reset(seed=1, options={"task": TASK})
    assert env.render() == "Problem: What is a half?"
    env.step("none")
    assert env.render().endswith("Response: none\nReward: -0.5")


@pytest.mark.parametrize("config", [{}, {"tasks": Sums(), "render_mode": "ansi"}])
def test_gymnasium_checker_passes(config):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make("SingleTurnMath-v0", **config).unwrapped)


def test_make_vec_plays_many_episodes():
    envs = gym.make_vec("SingleTurnMath-v0", num_envs=8, tasks=Sums())
    observations, infos = envs.reset(seed=0)
    assert list(infos["task_id"]) == [Sums().sample(seed).id for seed in range(8)]
    answers = tuple(rf"\boxed{{{int(o.split()[2]) + 1 - i % 2}}}" for i, o in enumerate(observations))
    _, rewards, terminated, truncated, infos = envs.step(answers)
    assert rewards.tolist() == [1.0, -1.0] * 4
    assert (terminated.all(), truncated.any()) == (True, False)
    assert infos["correct"].tolist() == [True, False] * 4
    assert len({id(e.tasks) for e in envs.environments}) == 1


def test_gymnasium_imports_the_module_in_the_id():
    code = "import gymnasium; print(gymnasium.make('reason_envs:SingleTurnMath-v0').reset(seed=1)[1])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert "task_id" in done.stdout
    assert done.stderr == ""
