import asyncio
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from reason_envs.errors import EngineError, ReasonEnvsError, RewardError
from reason_envs.rewards import (
    REWARDS,
    MathReward,
    RandomReward,
    Reward,
    RewardConfig,
    RewardFunction,
    build_reward,
    check_reward,
    make_reward,
    register_reward,
)
from reason_envs.rewards import __main__ as self_test
from reason_envs.tasks.base import Task

TASK = Task(id="t", question="What is 40 + 2?", answer="42")


def pay(reward, response, seed=0):
    return asyncio.run(reward(response, TASK, seed))


def length(response, task, scale=1.0):
    return scale * len(response)


async def length_and_more(response, task):
    return len(response), {"id": task.id}


@dataclass(frozen=True)
class LengthReward(RewardFunction):
    scale: float = 1.0

    async def __call__(self, response: str, task: Task, seed: int) -> Reward:
        return Reward(self.scale * len(response) + seed, {"correct": False})


@pytest.mark.parametrize(
    ("response", "value", "reason"),
    [
        (r"\boxed{42}", 1.0, "string_match"),
        (r"\boxed{42.0}", 1.0, "equal"),
        (r"\boxed{41}", -1.0, "different"),
        (r"\boxed{40+2}", -1.0, "unevaluated"),
        ("42", -0.5, "no_answer"),
    ],
)
def test_math_reward_known_values(response, value, reason):
    reward = pay(MathReward(), response)
    assert reward.value == value
    assert reward.info["reason"] == reason
    assert reward.info["correct"] == (value == 1.0)
    assert reward.info["no_answer"] == (value == -0.5)
    assert set(reward.info) == {"correct", "extracted", "reason", "no_answer"}


def test_math_reward_uses_its_options():
    reward = MathReward(correct=2.0, wrong=0.0, no_answer=0.25, fallbacks=("last_number",))
    assert [pay(reward, text).value for text in ("it is 42", "it is 41", "dunno")] == [2.0, 0.0, 0.25]


def test_random_reward_is_a_fair_coin_of_the_seed():
    reward = RandomReward()
    right = [pay(reward, r"\boxed{42}", seed) for seed in range(400)]
    wrong = [pay(reward, r"\boxed{41}", seed) for seed in range(400)]
    assert [r.value for r in right] == [r.value for r in wrong]
    assert {r.value for r in right} == {1.0, -1.0}
    assert abs(np.mean([r.value for r in right])) < 0.15  # three standard deviations
    assert all(r.info["correct"] for r in right)
    assert not any(r.info["correct"] for r in wrong)


def test_make_reward_by_name():
    assert make_reward("math") == MathReward(1.0, -1.0, -0.5, ())
    assert make_reward("random", correct=3.0) == RandomReward(correct=3.0)
    with pytest.raises(ReasonEnvsError, match=r"Unknown reward 'maths'. Did you mean 'math'"):
        make_reward("maths")


def test_register_reward_adds_a_class_and_keeps_names_unique(monkeypatch):
    monkeypatch.setattr(REWARDS, "parts", dict(REWARDS.parts))
    register_reward("length", LengthReward)
    assert pay(make_reward("length", scale=2.0), "abc", seed=1).value == 7.0
    with pytest.raises(ReasonEnvsError, match="registered already"):
        register_reward("math", LengthReward)


@pytest.mark.parametrize(
    ("spec", "options", "value"),
    [
        ("test_reward_functions:length", {"scale": 0.5}, 1.5),
        ("test_reward_functions:length_and_more", {}, 3.0),
        ("test_reward_functions:LengthReward", {"scale": 2.0}, 6.0),
        (length, {}, 3.0),
        (lambda response, task, seed: seed + 4, {}, 4.0),
        (lambda response, task: np.float32(2.5), {}, 2.5),
        (lambda response, task: True, {}, 1.0),
        (LengthReward(3.0), {}, 9.0),
    ],
)
def test_make_reward_accepts_functions_and_classes(spec, options, value):
    assert pay(make_reward(spec, **options), "abc").value == value


def test_function_rewards_can_return_info():
    assert pay(make_reward(length_and_more), "abc").info == {"id": "t"}
    assert pay(make_reward(lambda response, task: (1.0, {"why": "so"})), "abc").info == {"why": "so"}


def test_make_reward_returns_a_reward_function_unchanged():
    reward = LengthReward()
    assert make_reward(reward) is reward


def test_plain_functions_run_in_a_separate_thread():
    reward = make_reward(lambda response, task: (0.0, {"thread": threading.get_ident()}))
    assert pay(reward, "x").info["thread"] != threading.get_ident()


BAD_RESULTS = [
    float("nan"),
    float("inf"),
    "1.0",
    b"1",
    None,
    (1.0, 2.0),
    (1.0, {}, 3),
    1j,
    torch.ones(2),
    np.ones(2),
    [1.0],
]


@pytest.mark.parametrize("result", BAD_RESULTS, ids=repr)
@pytest.mark.parametrize("is_async", [False, True])
def test_function_rewards_must_return_a_finite_number(result, is_async):
    def plain(response, task):
        return result

    async def awaited(response, task):
        return result

    message = r"reward function .*(plain|awaited).* returned .* for task 't' and the response 'x'; .*finite number"
    with pytest.raises(ReasonEnvsError, match=message):
        pay(make_reward(awaited if is_async else plain), "x")


@pytest.mark.parametrize("is_async", [False, True])
def test_exception_in_a_reward_names_function_task_and_response(is_async):
    def plain(response, task):
        raise KeyError("mine")

    async def awaited(response, task):
        raise KeyError("mine")

    name = "awaited" if is_async else "plain"
    message = rf"{name} raised KeyError: 'mine' \(.*test_reward_functions\.py:\d+\) for task 't' and the response 'x'"
    with pytest.raises(RewardError, match=message) as caught:
        pay(make_reward(awaited if is_async else plain), "x")
    assert isinstance(caught.value.__cause__, KeyError)


def test_engine_failure_in_a_reward_stays_an_engine_failure():
    async def judge(response, task):
        raise EngineError("The server is down.")

    with pytest.raises(EngineError, match="server is down"):
        pay(make_reward(judge), "x")


def test_weighted_rewards_add_up_and_report_each_part():
    parts = [
        {"name": "math", "weight": 2},
        {"name": "test_reward_functions:length", "weight": 0.5, "scale": 3.0},
        length,
    ]
    paid = pay(make_reward(parts), r"\boxed{42}")
    assert paid.value == 2 * 1.0 + 0.5 * 3.0 * 10 + 10
    names = {"rewards/math": 1.0, "rewards/length": 30.0, "rewards/length_": 10.0, "correct": True}
    assert names.items() <= paid.info.items()


def test_weighted_rewards_keep_the_first_entry_of_info():
    parts = [lambda response, task: (1.0, {"correct": True}), lambda response, task: (0.0, {"correct": False, "b": 1})]
    assert pay(make_reward(parts), "x").info.items() >= {"correct": True, "b": 1}.items()


class NoResponse:
    def __call__(self, task):
        return 0.0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([], "list of rewards is empty"),
        ([{"name": "math", "weight": "high"}], "0.weight='high' must be a finite number"),
        (["math", {"name": "math", "weight": float("nan")}], "1.weight=nan must be a finite number"),
        (
            ["math", {"name": "math", "corect": 1}],
            r"1.corect=1 is not an option of reward 'math'\. Did you mean 'correct'",
        ),
        (["maths"], "Did you mean 'math'"),
        ("test_reward_functions:NoResponse", "cannot be called with a response and a task"),
        ({"name": "test_reward_functions:length", "size": 1}, r"size=1 is not an option .* Valid: scale"),
        (3, r"3 \(int\) does not choose the reward"),
    ],
)
@pytest.mark.parametrize("use", [check_reward, build_reward, make_reward])
def test_rewards_are_checked_before_they_are_built(use, spec, message):
    with pytest.raises(ReasonEnvsError, match=message):
        use(spec)


def test_check_reward_builds_nothing(monkeypatch):
    monkeypatch.setattr(LengthReward, "__init__", lambda *arguments, **options: pytest.fail("built"))
    check_reward([{"name": "test_reward_functions:LengthReward"}, LengthReward, length, "math", RewardConfig()])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such_module:f", r"cannot import 'no_such_module'"),
        ("test_reward_functions:lenght", r"'lenght'. Did you mean 'length'"),
        (3, r"3 \(int\) does not choose the reward"),
    ],
)
def test_make_reward_refuses_bad_specs(spec, message):
    with pytest.raises(ReasonEnvsError, match=message):
        make_reward(spec)


def test_build_reward_from_a_config_known_values():
    assert build_reward(RewardConfig()) == MathReward()
    config = RewardConfig(correct=2.0, fallbacks=["####"])
    assert build_reward(config) == MathReward(correct=2.0, fallbacks=("####",))
    assert build_reward(RewardConfig(name="random", wrong=0.0)) == RandomReward(wrong=0.0)
    with pytest.raises(ReasonEnvsError, match=r"no_answer=0.0 is not an option of reward 'random'"):
        build_reward(RewardConfig(name="random", no_answer=0.0))
    with pytest.raises(ReasonEnvsError, match=r"fallbacks='numbr' is unknown"):
        RewardConfig(fallbacks=("numbr",))


def test_main_prints_its_checks_and_fails_if_a_check_fails(capsys, monkeypatch):
    quick = [check for check in self_test.CHECKS if "9^" not in check[0]]
    monkeypatch.setattr(self_test, "CHECKS", quick)
    assert self_test.main() == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "Test 1 ✓\n  Generated: The answer is \\boxed{42}\n  Truth: 42\n  Predicted: 42\n  Correct: True"
    )
    assert f"{len(quick)} of {len(quick)} checks passed." in out
    monkeypatch.setattr(self_test, "CHECKS", [(r"\boxed{1}", "2", 1.0)])
    assert self_test.main() == 1
    assert "Test 1 ✗" in capsys.readouterr().out


def test_register_reward_adds_a_function_with_options(monkeypatch):
    monkeypatch.setattr(REWARDS, "parts", dict(REWARDS.parts))
    register_reward("own_length", length)
    register_reward("seeded", lambda response, task, seed: seed)
    assert pay(make_reward({"name": "own_length", "scale": 2.0}), "abc").value == 6.0
    assert pay(make_reward("seeded"), "abc", seed=5).value == 5.0
    with pytest.raises(ReasonEnvsError, match=r"size=1 is not an option of reward 'own_length'\. Valid: scale"):
        make_reward("own_length", size=1)
    with pytest.raises(ReasonEnvsError, match="is not an option of reward 'seeded'"):
        make_reward("seeded", seed=3)


def test_register_reward_refuses_a_factory():
    with pytest.raises(ReasonEnvsError, match=r"reward 'factory' cannot be called with a response and a task .*self"):
        register_reward("factory", lambda: length)
    assert "factory" not in REWARDS.parts


def test_make_reward_accepts_a_class_without_annotations():
    class Plain:
        async def __call__(self, response, task, seed):
            return Reward(float(seed), {"why": "plain"})

    assert pay(make_reward(Plain()), "x", seed=2) == Reward(2.0, {"why": "plain"})
