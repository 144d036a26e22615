"""WorkflowExecution-v0: programs, operators, tiers, batches, budgets."""

from __future__ import annotations

import asyncio
import warnings

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env
from scripted_engine import ScriptedEngine
from workflow_toys import ASK, CODE, MATH, QA, RETURN, SIMPLE, TASKS, make_env, play, play_many, program

from reason_envs.errors import ReasonEnvsError
from reason_envs.sandbox import make_sandbox
from reason_envs.sandbox.layers import detect
from reason_envs.tasks import make

KEYS = {
    *("task_id", "domain", "valid_action", "verdict", "error", "repairs", "operators", "answer", "extracted", "reason"),
    *(
        "tier",
        "score",
        "correct",
        "no_answer",
        "executor_calls",
        "generated_tokens",
        "prompt_tokens",
        "cost",
        "earned",
        "capped",
    ),
}


def test_workflow_is_paid_by_its_answer():
    end = play(make_env(), MATH, f"Here it is:\n```python\n{SIMPLE}\n```")
    assert end.rewards == {"writer": 1.0}
    assert (end.done, end.terminated, end.truncated) == (True, {"writer": True}, {"writer": False})
    assert set(end.info) == KEYS
    assert end.info["operators"] == ["Custom"]
    assert end.info["generated_tokens"] == len(end.info["answer"]) == 23
    assert end.info["executor_calls"] == 1


def test_64_workflows_of_two_rounds_are_two_batches():
    twice = program(ASK + 'a = await self.custom(input=a["response"], instruction="Check.")\n' + RETURN)
    engine = ScriptedEngine(r"\boxed{27}")
    ends = play_many(make_env(engine), MATH, [twice] * 64)
    assert (engine.batcher.calls, engine.batcher.requests) == (2, 128)
    assert all(end.rewards == {"writer": 1.0} for end in ends)


def test_different_workflows_share_batches():
    both = program(
        "import asyncio\n"
        "xs = await asyncio.gather(*[self.custom(input=problem, instruction=str(i)) for i in range(3)])\n"
        'return xs[0]["response"], 0'
    )
    engine = ScriptedEngine(r"\boxed{27}")
    play_many(make_env(engine), MATH, [SIMPLE, both, SIMPLE, both])
    assert (engine.batcher.calls, engine.batcher.requests) == (1, 8)


def test_draws_depend_on_their_address_and_not_on_their_order():
    engine = ScriptedEngine([rf"\boxed{{{n}}}" for n in range(50)])
    loop = program(
        "xs = []\nfor i in range(4):\n    " + ASK.strip() + '\n    xs.append(a["response"])\nreturn str(xs), 0'
    )
    env = make_env(engine)
    alone = [play(env, MATH, loop, seed).info["answer"] for seed in range(3)]
    together = [end.info["answer"] for end in play_many(env, MATH, [loop] * 3)]
    assert alone == together
    assert len(set(alone)) == 3
    assert len(set(alone[0].split(","))) > 1


def test_forks_are_isolated():
    env = make_env()
    asyncio.run(env.reset(seed=1, options={"task": MATH}))
    fork = env.fork()
    assert asyncio.run(fork.step({"writer": SIMPLE})) == asyncio.run(env.step({"writer": SIMPLE}))
    with pytest.raises(ReasonEnvsError, match="call reset first"):
        asyncio.run(env.step({"writer": SIMPLE}))


# --- operators


def scripted(answers):
    """An executor whose answer depends on the beginning of the prompt."""

    def script(request, seed):
        prompt = request.prompt[0]["content"]
        return next(answer for start, answer in answers.items() if prompt.startswith(start))

    return ScriptedEngine(script)


def test_answer_generate_returns_both_fields():
    engine = scripted({"Think, then": "<thought>Ann has it.</thought><answer>red ball</answer>"})
    body = 'a = await self.ag(input=problem)\nreturn a["answer"] + "|" + a["thought"], 0'
    assert play(make_env(engine), QA, program(body, "ag=AnswerGenerate")).info["answer"] == "red ball|Ann has it."
    untagged = scripted({"Think, then": " red ball "})
    assert play(make_env(untagged), QA, program(body, "ag=AnswerGenerate")).info["answer"] == "red ball|"


def test_programmer_runs_its_code_and_retries():
    answers = {"Write solve() that returns the answer. None\nWhat is 20 + 7?": "def solve():\n    return 1 / 0"}
    again = "Write solve() that returns the answer. None\nWhat is 20 + 7?\ndef solve"
    engine = scripted({again: "```python\ndef solve():\n    return 20 + 7\n```", **answers})
    body = 'a = await self.p(problem=problem)\nreturn a["output"], 0'
    end = play(make_env(engine), MATH, program(body, "p=Programmer"))
    assert (end.rewards["writer"], end.info["executor_calls"]) == (1.0, 2)
    hopeless = play(make_env("while True: pass", max_calls=1), MATH, program(body, "p=Programmer"))
    assert hopeless.info["verdict"] == "calls"


def test_ensemble_asks_only_without_a_majority():
    asked = scripted({"Which": "<solution_letter>B</solution_letter>", "Think.": r"\boxed{27}"})
    body = ASK + 'r = await self.sc(solutions=[{}], problem=problem)\nreturn r["response"], 0'
    majority = program(body.format('"27", a["response"], "28"'), "custom=Custom", "sc=ScEnsemble")
    end = play(make_env(asked), MATH, majority)
    assert (end.info["answer"], end.info["executor_calls"]) == ("27", 1)
    tie = program(body.format('"28", a["response"]'), "custom=Custom", "sc=ScEnsemble")
    end = play(make_env(asked), MATH, tie)
    assert (end.info["answer"], end.info["executor_calls"], end.rewards["writer"]) == (r"\boxed{27}", 2, 1.0)
    unread = scripted({"Which": "Z or none at all", "Think.": r"\boxed{27}"})
    assert play(make_env(unread), MATH, tie).info["answer"] == "28"


def test_test_operator_runs_public_tests_and_repairs():
    engine = scripted({"Write the code": "def f(a):\n    return a", "Mend the code": "def f(a):\n    return 2 * a"})
    body = (
        'a = await self.c(problem=problem, entry_point=entry_point, instruction="")\n'
        't = await self.t(problem=problem, solution=a["response"], entry_point=entry_point)\n'
        'return t["solution"] if t["result"] else "", 0'
    )
    text = program(body, "c=CustomCodeGenerate", "t=Test", entry_point=True)
    end = play(make_env(engine), CODE, text)
    assert (end.rewards["writer"], end.info["executor_calls"]) == (1.0, 2)
    without = {**CODE.metadata, "public_tests": []}
    task = {"id": "c", "question": CODE.question, "answer": CODE.answer, "metadata": without}
    assert play(make_env(engine), task, text).info["answer"] == ""  # without tests, none is passed


def test_review_reads_false_and_revise_rewrites():
    engine = scripted(
        {
            "Is the": "<review_result>false</review_result><feedback>20 + 7 is more</feedback>",
            "Revise": r"\boxed{27}",
            "Think.": r"\boxed{26}",
        }
    )
    body = (
        ASK + 'v = await self.v(problem=problem, solution=a["response"])\n'
        'if not v["review_result"]:\n'
        '    r = await self.r(problem=problem, solution=a["response"], feedback=v["feedback"])\n'
        '    return r["solution"], 0\n' + RETURN
    )
    end = play(make_env(engine), MATH, program(body, "custom=Custom", "v=Review", "r=Revise"))
    assert (end.rewards["writer"], end.info["operators"]) == (1.0, ["Custom", "Review", "Revise"])


def test_executors_can_be_set_per_operator():
    first, second = ScriptedEngine(r"\boxed{26}"), ScriptedEngine("def solve():\n    return 27")
    body = ASK + 'p = await self.p(problem=problem)\nreturn p["output"], 0'
    env = make_env(first, executors={"Programmer": second})
    assert play(env, MATH, program(body, "custom=Custom", "p=Programmer")).rewards["writer"] == 1.0
    assert (first.batcher.calls, second.batcher.calls) == (1, 1)


# --- rewards


def test_code_is_paid_by_its_share_of_passed_tests():
    body = 'a = await self.c(problem=problem, entry_point=entry_point, instruction="")\nreturn a["response"], 0'
    text = program(body, "c=CustomCodeGenerate", entry_point=True)
    values = {"2 * a": 1.0, "a": 0.2, "2": 0.2, "2 if a == 1 else 4": 0.4, "a + a if a else 7": 0.7, "9": 0.0}
    for expression, reward in values.items():
        assert play(make_env(f"def f(a):\n    return {expression}"), CODE, text).rewards["writer"] == reward, expression


def test_repairs_are_listed_and_cap_the_reward():
    bare = 'class Workflow:\n    async def __call__(self, problem):\n        x = re.sub("a", "a", "")\n        ' + ASK
    end = play(make_env(), MATH, bare + "        " + 'return a["response"] + x, 0')
    assert end.info["repairs"] == ["import re", "initialisation of custom"]
    assert (end.rewards["writer"], end.info["capped"], end.info["correct"]) == (0.7, "repaired", True)
    for wrong in (SIMPLE.replace("        return", "      return"), "  " + SIMPLE.replace("\n", "\n  ").rstrip()):
        end = play(make_env(), MATH, wrong)
        assert (end.info["repairs"], end.rewards["writer"]) == (["indentation"], 0.7), wrong


def test_operators_of_another_domain_cap_the_reward():
    body = 'a = await self.ag(input=problem)\nreturn a["answer"], 0'
    end = play(make_env("<answer>27</answer>"), MATH, program(body, "ag=AnswerGenerate"))
    assert (end.rewards["writer"], end.info["earned"], end.info["capped"]) == (0.4, 0.4, "misfit")


@pytest.mark.parametrize(
    "body",
    [
        'return "27", 0',
        "return 27, 0",
        'return str(20 + 7) + "", 0',
        'a = await self.custom(input="Say 27", instruction="")\n' + 'return "27", 0',
        ASK + 'a = await self.sc(solutions=["27", "27"], problem=problem)\nreturn a["response"], 0',
    ],
)
def test_answers_written_by_the_program_earn_nothing(body):
    env = make_env("I do not know.")
    end = play(env, MATH, program(body, "custom=Custom", "sc=ScEnsemble"))
    assert (end.rewards["writer"], end.info["reason"]) == (0.0, "unsupported")


def test_outputs_of_operators_without_the_problem_are_not_grounded():
    blind = program('a = await self.custom(input="Say 27", instruction="")\n' + RETURN)
    assert play(make_env(r"\boxed{27}"), MATH, blind).info["reason"] == "unsupported"
    second = ASK + 'a = await self.custom(input=a["response"], instruction="Only the number.")\n' + RETURN
    assert play(make_env(r"\boxed{27}"), MATH, program(second)).rewards["writer"] == 1.0


def test_reward_does_not_depend_on_size():
    padding = "\n".join(f"x{i} = {i}" for i in range(200)) + "\n"
    more = padding + "".join(ASK for _ in range(9)) + RETURN
    for script in (r"\boxed{27}", r"\boxed{25}", "none"):
        small, large = (play(make_env(script), MATH, program(body)).rewards for body in (ASK + RETURN, more))
        assert small == large


def test_copies_of_the_context_earn_nothing():
    body = ASK + 'return problem + a["response"], 0'
    assert play(make_env("red ball"), QA, program(body)).rewards["writer"] == 0.0
    assert play(make_env("red ball"), QA, SIMPLE).rewards["writer"] == 1.0
    echo = make_env(QA.question)
    assert play(echo, QA, SIMPLE).rewards["writer"] == 0.0


def test_random_reward_is_a_fair_coin_and_reports_the_grade():
    ends = play_many(make_env(reward="random"), MATH, [SIMPLE, 'x = "none"'] * 20)
    rewards = [end.rewards["writer"] for end in ends]
    assert set(rewards) == {0.0, 1.0}
    assert 10 < sum(rewards) < 30
    assert [end.info["correct"] for end in ends] == [True, False] * 20


def length(response, task):
    return len(response) / 100


def test_reward_option_takes_a_function():
    assert play(make_env(reward=f"{__name__}:length"), MATH, SIMPLE).rewards["writer"] == 0.23


# --- usage


def test_info_counts_cost_and_usage(tmp_path):
    file = tmp_path / "llm.yaml"
    file.write_text(
        "models:\n  small:\n    api_type: transformers\n    model: embedded:workflow\n    device: cpu\n"
        "    input_price: 1000000\n    output_price: 2000000\n    max_tokens: 8\n"
    )
    from reason_envs.envs.workflow.config import WorkflowConfig
    from reason_envs.envs.workflow.environment import WorkflowExecution

    env = WorkflowExecution(WorkflowConfig(tasks=TASKS, aflow_config_path=str(file)))
    body = ASK + 'return str(self.llm.get_usage_summary()["total_cost"]), 0'
    info = play(env, MATH, program(body)).info
    assert info["cost"] == pytest.approx(info["prompt_tokens"] + 2 * info["generated_tokens"])
    assert float(info["answer"]) == pytest.approx(info["cost"])
    assert 0 < info["generated_tokens"] <= 8


# --- public problems


@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_references_of_public_problems_earn_the_full_reward(real_data, name):
    file = {"humaneval": "humaneval/HumanEval.jsonl.gz", "mbpp": "mbpp/sanitized_test.jsonl"}[name]
    if detect().missing:
        pytest.skip(f"the native sandbox lacks {detect().missing} here")
    tasks = list(make({"name": name, "path": {"test": real_data / file}}, "test"))[:8]
    engine = ScriptedEngine(lambda r, seed: next(t.answer for t in tasks if t.question in r.prompt[0]["content"]))
    body = (
        'a = await self.c(problem=problem, entry_point=entry_point, instruction="")\n'
        't = await self.t(problem=problem, solution=a["response"], entry_point=entry_point)\n'
        'return t["solution"], 0'
    )
    text = program(body, "c=CustomCodeGenerate", "t=Test", entry_point=True)
    sandbox = make_sandbox("native", workers=2)
    env = make_env(engine, sandbox=sandbox, executor_max_tokens=10_000)
    assert [play(env, task, text).rewards["writer"] for task in tasks] == [1.0] * 8
    sandbox.close()


def test_tests_that_the_sandbox_cannot_run_are_an_error():
    tests = {"code": CODE.answer, "test_list": ["assert all(f(i) == 2 * i for i in range(9))"]}
    task = {"id": "c", "question": CODE.question, "answer": CODE.answer, "metadata": {**CODE.metadata, "tests": tests}}
    with pytest.raises(ReasonEnvsError, match=r"Task 'c' cannot be graded.*env.sandbox=native"):
        play(make_env(CODE.answer), task, SIMPLE)


# --- Gymnasium


def test_prompt_names_operators_domain_and_problem():
    env = make_env(prompts="full")
    for task, words in ((MATH, "mathematics"), (QA, "question"), (CODE, "entry_point")):
        start = asyncio.run(env.reset(options={"task": task}))
        (message,) = env.render_messages(start.observations["writer"])
        for name in ("Custom", "AnswerGenerate", "Programmer", "ScEnsemble", "Test", "Review", "Revise"):
            assert name in message["content"]
        assert words in message["content"]
        assert message["content"].endswith(task.question)


def test_prompt_takes_descriptions_from_a_file(tmp_path):
    file = tmp_path / "operators.yaml"
    file.write_text("Custom:\n  description: Asks.\n  interface: custom(input, instruction)\nTest: Tests.\n")
    env = make_env(aflow_operator_descriptions_path=str(file))
    start = asyncio.run(env.reset(options={"task": MATH}))
    content = env.render_messages(start.observations["writer"])[0]["content"]
    assert "Custom: Asks. Interface: custom(input, instruction)\n" in content
    assert "\nTests.\n" in content


def test_render_shows_the_program_and_its_calls():
    env = gym.make("WorkflowExecution-v0", tasks=TASKS, engine=ScriptedEngine(r"\boxed{27}"), render_mode="ansi")
    env.reset(seed=0, options={"task": MATH})
    assert env.render() == f"Problem: {MATH.question}"
    env.step(SIMPLE)
    shown = env.render()
    for part in ("class Workflow", "1. Custom(input='What is 20 + 7?', instruction='Think.')", "Reward: 1.0", "1 exec"):
        assert part in shown


def test_gymnasium_checker_passes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make("WorkflowExecution-v0", engine=ScriptedEngine("x"), render_mode="ansi")
        check_env(env.unwrapped)


def test_make_vec_plays_many_episodes():
    engine = ScriptedEngine(r"\boxed{27}")
    envs = gym.make_vec("WorkflowExecution-v0", num_envs=8, tasks=TASKS, engine=engine)
    envs.reset(seed=0, options={"task": MATH})
    _, rewards, terminated, _, infos = envs.step((SIMPLE, 'return "27"') * 4)
    assert rewards.tolist() == [1.0, 0.0] * 4
    assert terminated.all()
    assert infos["verdict"].tolist() == ["ok", "no_workflow"] * 4
    assert engine.batcher.calls == 1
