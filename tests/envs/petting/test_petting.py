"""Contract of all Petting environments: turns, history, rewards, forks and rendering."""

from __future__ import annotations

import asyncio
from statistics import pstdev

import numpy as np
import pytest
from petting_toys import NAMES, go, plan, play, random_policy, solver, start

from reason_envs import make_environment
from reason_envs.envs.petting.base import SOLO
from reason_envs.errors import ReasonEnvsError

WRONG = {
    "tool": "print(1.5)",
    "planner": "?",
    "reasoner": r"\boxed{1.5}",
    "coder": "f = abs",
    "tester": "assert f(2) == 99",
}


def wrong(environment):
    """A valid response that changes nothing; those of math and code neither agree nor pass."""
    turn = environment.turn
    return f"{WRONG[environment.role]}".replace("1.5", f"1.{turn}" if environment.role == "tool" else f"2.{turn}")


@pytest.mark.parametrize("name", NAMES)
def test_roles_decide_in_order_until_the_last_turn(name):
    environment, result = start(name)
    order = []
    while not result.done:
        (agent,) = result.observations
        assert result.observations[agent].startswith(f"{agent} {len(order) // 2 + 1}/4\n")
        assert environment.observation_space(agent).contains(result.observations[agent])
        order.append(agent)
        result = go(environment, wrong(environment), agent)
    assert order == list(environment.agents) * 4
    assert set(result.terminated) == set(environment.agents)
    assert all(result.terminated.values())
    assert not any(result.truncated.values())
    assert set(result.final_observations) == set(environment.agents)
    assert (result.info["episode_length"], result.info["success"]) == (4, False)
    with pytest.raises(ReasonEnvsError, match="call reset"):
        go(environment, "x")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("roles", ["team", "single"])
def test_right_responses_succeed_in_the_first_turn(name, roles):
    environment, _ = start(name, roles=roles)
    *_, last = play(environment, solver)
    assert last.done
    assert (last.info["success"], last.info["correct"], last.info["progress"]) == (True, True, 1.0)
    assert last.info["episode_length"] == 1
    assert last.info["solved_at_start"] is False


@pytest.mark.parametrize("name", NAMES)
def test_observations_show_the_latest_decision_of_each_role(name):
    environment, result = start(name)
    written = []
    for _ in range(4):
        (agent,) = result.observations
        for text in written[-2:]:  # the latest decision of the other role, and its own one before that
            assert text in result.observations[agent]
        assert result.observations[agent].count("\n= ") == min(len(written), 2)
        written.append(wrong(environment))
        result = go(environment, written[-1], agent)
    longer, result = start(name, history=3)
    for _ in range(7):
        result = go(longer, wrong(longer))
    assert next(iter(result.observations.values())).count("\n= ") == 6


@pytest.mark.parametrize("name", NAMES)
def test_observations_shorten_long_responses(name):
    environment, result = start(name, max_shown_chars=50, max_response_chars=3_000)
    first = len(next(iter(result.observations.values())))
    for _ in range(4):
        result = go(environment, "x" * 2_900 + "the end")
        (seen,) = result.observations.values()
        assert f"{'x' * 43}the end\n= " in seen
        assert "[2857 characters left out] xxx" in seen
        assert len(seen) < first + 2 * (50 + 300 + 100)
        assert environment.observation_space(environment.role).contains(seen)
    assert environment.state.entries[0].text.startswith("x" * 2_900)
    environment, _ = start(name, max_shown_chars=50)
    assert f": {'y' * 50}\n= " in next(iter(go(environment, "y" * 50).observations.values()))


@pytest.mark.parametrize("name", NAMES)
def test_forks_are_equal_and_isolated(name):
    environment, _ = start(name)
    go(environment, random_policy(5)(environment))
    before = environment.observe(environment.role), repr(environment.state)
    forks = [environment.fork() for _ in range(4)]
    assert {fork.observe(fork.role) for fork in forks} == {before[0]}
    results = [go(fork, solver(fork)) for fork in forks]
    assert results[0] == results[1] == results[2]
    go(environment.fork(), None)  # a missing response is counted in the fork alone
    assert (environment.observe(environment.role), repr(environment.state)) == before
    other, again = environment.fork(seed=1), environment.fork(seed=1)
    assert other.state.seed == again.state.seed != environment.state.seed


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_and_actions_give_the_same_episode(name):
    first, second = (play(start(name, seed=11)[0], random_policy(2)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
def test_reward_is_alpha_times_team_plus_local(name, alpha):
    seen = set()
    for seed in range(4):
        environment, result = start(name, seed=seed, alpha=alpha)
        policy = random_policy(seed)
        while not result.done:
            (agent,) = result.observations
            result = go(environment, policy(environment))
            assert set(result.rewards) == {agent}
            assert result.rewards[agent] == alpha * result.info["team_reward"] + result.info["local_reward"]
            seen.add(result.info["team_reward"])
    assert len(seen) > 1


@pytest.mark.parametrize("name", NAMES)
def test_team_rewards_add_up_to_the_final_value(name):
    for seed in range(4):
        environment, _ = start(name, seed=seed)
        value = environment.value(environment.state.game)
        results = play(environment, random_policy(seed))
        earned = sum(result.info["team_reward"] for result in results)
        lost = 0.0 if results[-1].info["success"] else environment.failure_penalty()
        assert earned == pytest.approx(environment.value(environment.state.game) - value - lost)


@pytest.mark.parametrize("name", NAMES)
def test_team_reward_is_zero_for_roles_that_cannot_change_the_game(name):
    resting = {"petting_code": "tester"}.get(name, "tool")
    moved = set()
    for seed in range(4):
        for result in play(start(name, seed=seed)[0], random_policy(seed)):
            if result.info["role"] == resting and not result.done:
                assert result.info["team_reward"] == 0
            moved |= {result.info["role"]} if result.info["team_reward"] else set()
    assert moved <= set(start(name)[0].agents)
    assert len(moved) == 1


@pytest.mark.parametrize("name", NAMES)
def test_local_rewards_telescope(name):
    """Four right programs or tests in a row earn as much as one."""
    environment, _ = start(name)
    resting = "tester" if name == "petting_code" else "tool"
    earned = [0.0]
    while not environment.state.done:
        mine = environment.role == resting
        result = go(environment, solver(environment) if mine else wrong(environment))
        if mine:
            earned.append(result.info["local_reward"])
    assert len(earned) == 5
    assert earned[1] > 0
    assert max(earned[2:]) <= 0


@pytest.mark.parametrize("name", NAMES)
def test_every_role_has_groups_with_different_rewards(name):
    """Group-relative advantages need it: eight candidates of a random policy from one state."""
    spread = {}
    for seed in range(12):
        environment, _ = start(name, seed=seed)
        for _ in range(4):
            if environment.state.done:
                break
            forks = [environment.fork() for _ in range(8)]
            results = [go(fork, random_policy(100 * seed + k)(fork)) for k, fork in enumerate(forks)]
            rewards = [sum(result.rewards.values()) for result in results]
            spread.setdefault(environment.role, []).append(pstdev(rewards) > 1e-9)
            environment = forks[0]
    assert set(spread) == set(environment.agents)
    for role, varied in spread.items():
        assert sum(varied) / len(varied) > 0.3, role


@pytest.mark.parametrize("name", NAMES)
def test_single_agent_plays_the_same_game(name):
    for seed in range(3):
        team, alone = start(name, seed=seed)[0], start(name, seed=seed, roles="single")[0]
        assert alone.agents == (SOLO,)
        assert alone.observe(SOLO) == team.observe(team.role)
        together = [(r.info, sum(r.rewards.values())) for r in play(team, random_policy(seed))]
        results = play(alone, random_policy(seed))
        assert [(r.info, r.rewards[SOLO]) for r in results] == together
        assert results[-1].terminated == {SOLO: True}


@pytest.mark.parametrize("name", NAMES)
def test_messages_have_the_system_prompt_of_the_role(name):
    environment, result = start(name)
    for _ in range(2):
        (observation,) = result.observations.values()
        system, user = environment.render_messages(observation)
        assert system == {"role": "system", "content": environment.prompts[environment.role]}
        assert user == {"role": "user", "content": observation}
        result = go(environment, "x")
    first = environment.roles[0]
    own, result = start(name, prompts={first: "Begin."})
    assert own.render_messages(result.observations[first])[0]["content"] == "Begin."
    result = go(own, "x")
    assert len(own.render_messages(result.observations[own.role])) == 1
    with pytest.raises(ReasonEnvsError, match="prompts='boss' is unknown"):
        make_environment(name, prompts={"boss": "Work."})


@pytest.mark.parametrize("name", NAMES)
def test_render_returns_text_and_images(name):
    environment, _ = start(name, render_mode="ansi")
    assert environment.board(environment.state.game) in environment.render()
    play(environment, lambda e: "$x_1^2$ {\n\u00e9\U0001f642 漢")  # characters that a drawing library could interpret
    assert "漢" in environment.render()
    environment.render_mode = "rgb_array"
    last = environment.render()
    assert (last.shape, last.dtype) == ((600, 1000, 3), np.uint8)
    fresh, _ = start(name, render_mode="rgb_array")
    assert fresh.render().shape == last.shape
    assert (fresh.render() != last).any()
    fresh.render_mode = None
    assert fresh.render() is None
    assert make_environment(name, render_mode="ansi").render() is None


@pytest.mark.parametrize("name", NAMES)
def test_train_and_test_problems_are_disjoint(name):
    train, test = make_environment(name), make_environment(name, split="test")

    async def questions(environment, seeds):
        found = set()
        for seed in seeds:
            await environment.reset(seed=seed)
            found.add(environment.task.question)
        return found

    seen = asyncio.run(questions(train, range(300)))
    assert len(seen) > 200
    assert not seen & asyncio.run(questions(test, range(300)))


@pytest.mark.parametrize(
    "options",
    [
        {"roles": "both"},
        {"max_turns": 0},
        {"history": 0},
        {"max_shown_chars": 0},
        {"alpha": -1.0},
        {"bad_format": -0.1},
        {"program_seconds": 0},
        {"sandbox": "docker"},
        {"split": "validation"},
        {"step": -0.1},
    ],
    ids=str,
)
def test_config_errors_name_the_option(options):
    with pytest.raises(ReasonEnvsError):
        make_environment("petting_plan_path", **options)


def test_options_allow_larger_grids():
    for name, tasks in {
        "petting_plan_path": {"name": "plan_path", "rows": 10, "columns": 10},
        "petting_sokoban": {"name": "sokoban", "rows": 7, "columns": 7, "boxes": 2},
        "petting_sudoku": {"name": "sudoku", "side": 9},
    }.items():
        environment, _ = start(name, tasks=tasks)
        assert plan(environment)
        assert play(environment, solver)[-1].info["success"]
