"""PlannerSolver-v0: reward, info, bad input, batching and Gymnasium."""

from __future__ import annotations

import asyncio
import warnings

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env
from openai_server import Server, choice, completion, reply
from scripted_engine import ScriptedEngine

import reason_envs
from reason_envs.batching import gather
from reason_envs.envs.prompt_templates import PLANNER_PROMPT, SOLVER_PROMPT, fill
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import make_engine
from reason_envs.rewards import RewardConfig

TASK = {"question": "How many apples do 7 friends with six apples each have?", "answer": "42"}


def obedient(request, seed):
    """A solver that is right if the guideline says multiply, wrong if it says add, and silent otherwise."""
    told = request.prompt[0]["content"]
    return r"\boxed{42}" if "multiply" in told else r"\boxed{13}" if "add" in told else ""


def make(solver=obedient, **options):
    engine = ScriptedEngine(solver) if callable(solver) or isinstance(solver, str | list) else solver
    return reason_envs.make_environment("planner_solver", solver=engine, **options)


async def episode(env, guideline, seed=0, task=TASK):
    await env.reset(seed=seed, options={"task": task})
    return await env.step({"planner": guideline})


def play(guideline, seed=0, task=TASK, **options):
    return asyncio.run(episode(make(**options), guideline, seed, task))


@pytest.mark.parametrize(
    ("guideline", "reward", "correct", "no_answer"),
    [("multiply", 1.0, 1.0, 0.0), ("add", 0.0, 0.0, 0.0), ("hum", 0.0, 0.0, 1.0)],
)
def test_reward_is_the_accuracy_of_the_solver(guideline, reward, correct, no_answer):
    end = play(guideline)
    assert end.rewards == {"planner": reward}
    assert (end.done, end.terminated, end.truncated) == (True, {"planner": True}, {"planner": False})
    assert (end.info["correct"], end.info["no_answer"], end.info["leak"]) == (correct, no_answer, False)
    assert end.info["solver_texts"] == [{"multiply": r"\boxed{42}", "add": r"\boxed{13}", "hum": ""}[guideline]]


def test_reward_counts_equivalent_answers():
    assert play("x", solver=r"\boxed{\frac{84}{2}}").rewards == {"planner": 1.0}


def test_prompts_contain_question_and_guideline():
    seen = []
    env = make(lambda request, seed: seen.append(request) or "")
    start = asyncio.run(env.reset(seed=1, options={"task": TASK}))
    assert start.observations == {"planner": TASK["question"]}
    (asked,) = env.render_messages(start.observations["planner"])
    assert asked == {"role": "user", "content": fill(PLANNER_PROMPT, question=TASK["question"])}
    asyncio.run(env.step({"planner": env.parse_action("  Use {question} and {guideline}.\n")}))
    text = "Use {question} and {guideline}."
    assert seen[0].prompt[0]["content"] == fill(SOLVER_PROMPT, question=TASK["question"], guideline=text)
    assert TASK["question"] in seen[0].prompt[0]["content"]
    assert text in seen[0].prompt[0]["content"], "braces in a guideline stay what they are"


def test_options_set_prompts_and_sampling():
    seen = []
    options = {"planner_prompt": "P {question}", "solver_prompt": "{guideline} S {question}"}
    options |= {"solver_temperature": 0.5, "solver_max_tokens": 9}
    env = make(lambda request, seed: seen.append(request) or "", **options)
    asyncio.run(episode(env, "G"))
    assert env.render_messages("Q")[0]["content"] == "P Q"
    assert seen[0].prompt[0]["content"] == f"G S {TASK['question']}"
    assert (seen[0].sampling.temperature, seen[0].sampling.max_tokens) == (0.5, 9)


def test_several_answers_are_drawn_separately_and_averaged():
    script = [r"\boxed{42}", r"\boxed{13}", ""]
    ends = [play("x", seed, solver=script, solver_samples=8, solver_temperature=1.0) for seed in range(5)]
    for end in ends:
        texts = end.info["solver_texts"]
        assert len(texts) == end.info["solver_calls"] == 8
        assert end.rewards["planner"] == end.info["correct"] == texts.count(r"\boxed{42}") / 8
        assert end.info["no_answer"] == texts.count("") / 8
        assert end.info["generated_tokens"] == sum(map(len, texts))
    assert len({tuple(end.info["solver_texts"]) for end in ends}) > 1


# --- leaks


@pytest.mark.parametrize("guideline", ["multiply: 42", "multiply 6*7", "multiply to forty-two"])
def test_leaking_guidelines_earn_nothing(guideline):
    end = play(guideline)
    assert end.rewards == {"planner": 0.0}
    assert (end.info["leak"], end.info["correct"]) == (True, 1.0), "info tells that the solver was right all the same"
    assert end.info["leaked_text"]
    off = play(guideline, leak_check=False)
    assert (off.rewards, off.info["leak"]) == ({"planner": 1.0}, True)


def test_honest_guidelines_are_not_leaks():
    for guideline in ("1. Read. 2. multiply the 7 and the 6.", "multiply six by the 7 friends"):
        end = play(guideline)
        assert (end.rewards["planner"], end.info["leak"]) == (1.0, False)


def test_leaks_are_paid_like_missing_answers():
    end = play("multiply: 42", reward={"wrong": -1.0, "no_answer": -0.5})
    assert end.rewards == {"planner": -0.5}


# --- bad input


@pytest.mark.parametrize(
    ("action", "empty", "overlong"),
    [("", True, False), (" \n", True, False), (None, True, False), (7, True, False), ("multiply" * 9, False, True)],
)
def test_invalid_guidelines_are_not_given_to_the_solver(action, empty, overlong):
    end = play(action, solver=lambda request, seed: pytest.fail("the solver was asked"), max_guideline_chars=50)
    assert end.rewards == {"planner": 0.0}
    assert (end.info["valid_action"], end.info["empty"], end.info["overlong"]) == (False, empty, overlong)
    assert (end.info["solver_calls"], end.info["generated_tokens"], end.info["solver_texts"]) == (0, 0, [])


def test_guidelines_longer_than_the_context_are_not_given_to_the_solver(tiny_model):
    engine = make_engine("transformers", model=tiny_model, device="cpu")  # 512 positions
    env = make(engine, solver_max_tokens=16)

    async def both():
        return await gather(*(episode(env.fork(), text) for text in ("add them up", "add " * 600)))

    short, long = asyncio.run(both())
    assert (short.info["overlong"], short.info["solver_calls"]) == (False, 1), "others in the batch are answered"
    assert (long.rewards, long.info["overlong"], long.info["solver_calls"]) == ({"planner": 0.0}, True, 0)
    assert long.info["valid_action"], "it is a guideline, but this solver cannot read it"


def test_problem_longer_than_the_context_is_an_error(tiny_model):
    engine = make_engine("transformers", model=tiny_model, device="cpu")
    with pytest.raises(ReasonEnvsError, match=r"leaves no room for solver_max_tokens=600.*lower solver_max_tokens"):
        asyncio.run(episode(make(engine, solver_max_tokens=600), "add"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver_samples": 0}, "solver_samples=0 must be at least 1"),
        ({"solver_samples": 4}, r"solver_samples=4 with solver_temperature=0.*temperature above 0"),
        ({"solver_temperature": -1.0}, "solver_temperature=-1.0 must be at least 0"),
        ({"solver_max_tokens": 0}, "solver_max_tokens=0 must be at least 1"),
        ({"planner_prompt": "Plan!"}, r"planner_prompt='Plan!' must contain \{question\}"),
        ({"solver_prompt": "Solve {question}"}, r"must contain \{guideline\}"),
        ({"solver": "policy"}, r"is the engine of a run's policy.*AdapterView"),
        ({"solver": "transformer"}, "Did you mean 'transformers'"),
        ({"reward": {"right": 1}}, "right=1 is not an option of reward 'math'"),
        ({"solvers": 2}, "Did you mean 'solver"),
    ],
)
def test_config_errors_name_option_and_rule(options, message):
    with pytest.raises(ReasonEnvsError, match=message):
        reason_envs.make_environment("planner_solver", **{"solver": ScriptedEngine(""), **options})


def test_step_without_an_episode_is_an_error():
    env = make()
    with pytest.raises(ReasonEnvsError, match="call reset first"):
        asyncio.run(env.step({"planner": "add"}))
    asyncio.run(episode(env, "add"))
    with pytest.raises(ReasonEnvsError, match="call reset first"):
        asyncio.run(env.step({"planner": "add"}))


# --- a solver on a server


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def served(server, **options):
    options = {"model": "served", "base_url": server.url, "backoff_s": 0.001, "max_retries": 1, **options}
    return make({"name": "openai", **options})


def test_served_solver_answers(server):
    server.script = lambda body, number: reply(body=completion(choice(r"\boxed{42}"), completion_tokens=7))
    end = asyncio.run(episode(served(server), "multiply"))
    assert (end.rewards, end.info["generated_tokens"]) == ({"planner": 1.0}, 7)
    assert "multiply" in server.bodies[0]["messages"][0]["content"]
    assert server.bodies[0]["temperature"] == 0


def test_served_solver_may_refuse_a_long_guideline(server):
    server.script = lambda body, number: reply(400, "This model's maximum context length is 512 tokens.")
    end = asyncio.run(episode(served(server), "multiply " * 1000))
    assert (end.rewards, end.info["overlong"], end.info["solver_calls"]) == ({"planner": 0.0}, True, 0)


def test_served_solver_may_return_an_empty_answer(server):
    server.script = lambda body, number: reply(body=completion(choice(""), completion_tokens=1))
    end = asyncio.run(episode(served(server), "multiply"))
    assert (end.rewards, end.info["no_answer"]) == ({"planner": 0.0}, 1.0)


def test_unreachable_solver_is_an_error(server):
    server.close()
    with pytest.raises(ReasonEnvsError, match=r"2 attempts.*connection failed.*Start the server"):
        asyncio.run(episode(served(server), "multiply"))


# --- the contract of every environment


def test_120_guidelines_are_one_batch_of_the_solver():
    env = make()

    async def step():
        return await gather(*(episode(env.fork(), "multiply", seed=i // 4) for i in range(120)))

    ends = asyncio.run(step())
    assert (env.solver.batcher.calls, env.solver.batcher.requests) == (1, 120)
    assert all(end.rewards == {"planner": 1.0} for end in ends)


def test_same_seed_gives_the_same_episode():
    options = {"solver": [r"\boxed{42}", r"\boxed{13}"], "solver_samples": 3, "solver_temperature": 1.0}
    assert play("x", 5, **options) == play("x", 5, **options)
    default = make()
    first, again = (asyncio.run(default.reset(seed=3)) for _ in range(2))
    assert first == again


def test_forks_share_the_solver_and_repeat_its_draws():
    env = make([r"\boxed{42}", r"\boxed{13}", "?"], solver_samples=6, solver_temperature=1.0)
    asyncio.run(env.reset(seed=1, options={"task": TASK}))
    same, other, third = env.fork(), env.fork(seed=1), env.fork(seed=2)
    assert same.solver is env.solver
    texts = [asyncio.run(e.step({"planner": "x"})).info["solver_texts"] for e in (env, same, other, third)]
    assert texts[0] == texts[1]
    assert len({tuple(t) for t in texts}) > 1
    assert env.state.responses == ["x"]


def test_random_reward_is_a_fair_coin_and_reports_the_grade():
    config = {"reward": {"name": "random"}}
    for guideline in ("multiply", "multiply 42", ""):
        values = [play(guideline, seed, **config).rewards["planner"] for seed in range(40)]
        assert set(values) == {0.0, 1.0}
        assert 8 < sum(values) < 32
    assert play("multiply", **config).info["correct"] == 1.0
    assert play("add", **config).info["correct"] == 0.0


@pytest.mark.parametrize("reward", ["math", RewardConfig(wrong=-1.0, no_answer=0.0), lambda response, task: 0.25])
def test_reward_option_takes_names_configs_and_functions(reward):
    assert play("add", reward=reward).rewards["planner"] in (-1.0, 0.25)


def test_render_shows_guideline_answers_and_reward():
    env = reason_envs.make_environment("planner_solver", solver=ScriptedEngine(obedient), render_mode="ansi")
    asyncio.run(episode(env, "multiply"))
    shown = env.render()
    for part in (TASK["question"], "Guideline: multiply", r"Solver: \boxed{42}", "Reward: 1.0"):
        assert part in shown
    assert make().render() is None


def test_gymnasium_checker_passes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make("PlannerSolver-v0", solver=ScriptedEngine(obedient)).unwrapped)


def test_vector_environment_asks_the_solver_in_one_batch():
    engine = ScriptedEngine(r"\boxed{0}")
    envs = gym.make_vec("PlannerSolver-v0", num_envs=8, solver=engine)
    envs.reset(seed=0)
    _, rewards, terminated, _, infos = envs.step(("go on",) * 8)
    assert engine.batcher.calls == 1
    assert terminated.all()
    assert rewards.tolist() == infos["correct"].tolist()


def test_embedded_solver_follows_its_guideline():
    env = reason_envs.make_environment("planner_solver")
    task = {"question": "State the final answer to the following arithmetic problem: 14 + 25 - 6 =", "answer": "33"}
    end = asyncio.run(episode(env, "Work from left to right, step by step.", task=task))
    assert end.info["solver_texts"] == ["14 + 25 = 39\n39 - 6 = 33\n\\boxed{33}"]
    assert end.rewards == {"planner": 1.0}
    hasty = asyncio.run(episode(env, "Answer at once.", task=task))
    assert hasty.info["generated_tokens"] < end.info["generated_tokens"]
    assert env.solver.generated_tokens == hasty.info["generated_tokens"] + end.info["generated_tokens"]
