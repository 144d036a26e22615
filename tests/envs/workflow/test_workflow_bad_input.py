"""WorkflowExecution-v0 with invalid input: a verdict within the limits, without an effect on other workflows."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from openai_server import Server, choice, completion, reply
from scripted_engine import ScriptedEngine
from workflow_toys import ASK, CODE, MATH, RETURN, SIMPLE, make_env, play, play_many, program

from reason_envs.envs.workflow.config import WorkflowConfig
from reason_envs.envs.workflow.environment import WorkflowExecution
from reason_envs.envs.workflow.executors import read_descriptions, read_models
from reason_envs.errors import EngineError, ReasonEnvsError
from reason_envs.llm import Engine, make_engine
from reason_envs.llm.engine import Generation
from reason_envs.tasks.task_list import ListTaskSet


@pytest.fixture(scope="module")
def env():
    return make_env(program_seconds=0.5)


MALFORMED = {
    "": "no_program",
    "   \n": "no_program",
    "```python\n```": "no_program",
    "I would add the numbers.": "syntax_error",
    "print(27)": "no_workflow",
    "class Workflow:\n    pass": "no_workflow",
    "class Workflow:\n    def __call__(self, problem):\n        return 1, 0": "no_workflow",
    "class Workflow:\n    async def __call__(self):\n        return 1, 0": "no_workflow",
    SIMPLE + "\n\n" + SIMPLE: "no_workflow",
    SIMPLE[:-1]: "syntax_error",
    SIMPLE + "\x00": "syntax_error",
    SIMPLE + "\n" + "(" * 5000: "syntax_error",
    SIMPLE + "\nx = " + "-" * 15000 + "1": "syntax_error",
    SIMPLE + "\nx = 1" + "+1" * 9000: "syntax_error",
    SIMPLE + "\nx = y" + ".a" * 9000: "syntax_error",
    SIMPLE + "\nx = " + "lambda:" * 2500 + "1": "syntax_error",
    SIMPLE.replace("operator.Custom", "operator.Customer"): "type_error",
    SIMPLE.replace("input=", "inputs="): "type_error",
    SIMPLE.replace(', instruction="Think."', ""): "type_error",
    SIMPLE.replace("await ", ""): "type_error",
    SIMPLE.replace('["response"]', '["answer"]'): "type_error",
    SIMPLE.replace("self.custom(", "self.customs("): "type_error",
    SIMPLE.replace("input=problem", "input=[problem]"): "type_error",
    "import os_secrets\n" + SIMPLE: "type_error",
    program("yield 1"): "runtime_error",
    program(ASK + 'return a["response"]'): "bad_result",
    program(ASK + "return a, 0"): "bad_result",
    program("return self, 0"): "bad_result",
    program("return 'x' * 60000, 0"): "bad_result",
    program("return 1 / 0, 0"): "runtime_error",
    program('raise ValueError("\\udcff")'): "runtime_error",
    program("return chr(0xD800), 0"): None,
}


@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_programs_get_a_verdict_and_an_error(env, text):
    end = play(env, MATH, text)
    wanted = MALFORMED[text]
    assert wanted in (None, end.info["verdict"]), end.info
    assert (end.rewards, end.done) == ({"writer": 0.0}, True)
    assert end.info["no_answer"]
    assert wanted is None or end.info["error"]


@pytest.mark.parametrize("action", [None, 7, b"x", ["x"], "x" * 20_001])
def test_invalid_actions_are_not_programs(env, action):
    end = play(env, MATH, action)
    assert (end.info["valid_action"], end.info["verdict"]) == (False, "no_program")


HOSTILE = {
    "while True: pass": "endless",
    "while True:\n    try:\n        while True: pass\n    except BaseException: pass": "endless",
    "while True: print('x' * 100000)": "output",
    "x = 'a' * 10**10\nreturn x, 0": "memory",
    "xs = []\nwhile True: xs.append('a' * 100000 + str(len(xs)))": "memory",
    "f = lambda g: g(g)\nreturn f(f), 0": "runtime_error",
    "return 9 ** 9 ** 9, 0": ("memory", "endless", "runtime_error"),
    "import time\ntime.sleep(10**6)\nreturn '1', 0": "ok",
    "import asyncio\nawait asyncio.sleep(10**6)\nreturn '1', 0": "ok",
    "while True: " + ASK.strip(): "calls",
    "import asyncio\nawait asyncio.gather(*[self.custom(input='', instruction='') for _ in range(99)])": "calls",
    "return open('/etc/passwd').read(), 0": "type_error",
    "import os\nreturn str(os.environ), 0": "runtime_error",
    "import os\nos.system('id')": ("type_error", "runtime_error"),
    "import os\nos._exit(0)": ("type_error", "runtime_error"),
    "import socket\nreturn 1, 0": ("type_error", "runtime_error"),
    "import subprocess\nreturn 1, 0": ("type_error", "runtime_error"),
    "from pathlib import Path\nreturn Path('/etc/passwd').read_text(), 0": "runtime_error",
    "return __import__('os').getcwd(), 0": ("type_error", "runtime_error"),
    "return str(eval('_operator')('Custom', 5)), 0": ("runtime_error", "ok"),
    "return await eval('_operator')('Nothing', {}), 0": "runtime_error",
    "return await eval('_operator')('Custom', {'input': 3, 'instruction': ''}), 0": "runtime_error",
    "return await eval('_operator')('Custom', {'input': 'x' * 200000, 'instruction': ''}), 0": "runtime_error",
    "class E:\n    def __eq__(self, other): return True\nreturn E(), 0": "bad_result",
    "import re\nreturn re.sub('(a+)+$', '', 'a' * 40 + 'b'), 0": ("ok", "endless", "runtime_error"),
}


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_programs_end_within_their_limit(env, body):
    began = time.monotonic()
    end = play(env, MATH, program(body))
    wanted = HOSTILE[body]
    assert end.info["verdict"] in ((wanted,) if isinstance(wanted, str) else wanted), end.info
    assert end.rewards == {"writer": 0.0}
    assert time.monotonic() - began < 10
    assert play(env, MATH, SIMPLE).rewards == {"writer": 1.0}


def test_hostile_programs_do_not_block_their_batch(env):
    ends = play_many(env, MATH, [SIMPLE, program("while True: pass"), SIMPLE, program("return 1 / 0, 0"), "", SIMPLE])
    assert [end.rewards["writer"] for end in ends] == [1.0, 0.0, 1.0, 0.0, 0.0, 1.0]


def test_programs_share_no_state(env):
    play(
        env, MATH, "SECRET = 'left'\n" + program("global SECRET\nSECRET = problem\noperator.Custom = None\nreturn 1, 0")
    )
    end = play(env, MATH, program("return SECRET, 0"))
    assert end.info["verdict"] == "type_error"
    peek = program("return str(eval('SECRET')), 0")
    assert play(env, MATH, peek).info["verdict"] == "runtime_error"
    assert play(env, MATH, SIMPLE).rewards == {"writer": 1.0}


def test_programs_cannot_read_environment_variables(env, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    for body in ("import os\nreturn str(os.environ), 0", "import os\nreturn str(os.getenv('OPENAI_API_KEY')), 0"):
        assert "sk-secret" not in str(play(env, MATH, program(body)).info)


def test_same_seed_gives_the_same_episode():
    text = program("import random, time\n" + ASK + 'return a["response"] + str(random.random()) + str(time.time()), 0')
    ends = [play(make_env([r"\boxed{1}", r"\boxed{2}", r"\boxed{3}"]), MATH, text, seed=5) for _ in range(2)]
    assert ends[0] == ends[1]


# --- limits


def test_budget_limits_tokens_and_time():
    loop = program("while True:\n    " + ASK + RETURN)
    assert play(make_env(max_executor_tokens=50, max_calls=99), MATH, loop).info["verdict"] == "tokens"
    info = play(make_env(max_executor_tokens=50, max_calls=99), MATH, loop).info
    assert info["generated_tokens"] == 50
    slow = make_env(Sleeper([1.5, 3600]), execution_timeout=2)
    began = time.monotonic()
    assert play(slow, MATH, program(ASK + ASK + RETURN)).info["verdict"] == "timeout"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("seconds", [[3600], [0.01, 3600]])
def test_executor_that_hangs_is_not_paid_as_the_fault_of_the_program(seconds):
    env = make_env(Sleeper(seconds), execution_timeout=0.3)
    with pytest.raises(EngineError, match=r"did not answer for 0\.\d s, when execution_timeout=0.3 ended"):
        play(env, MATH, program(ASK + ASK + RETURN))


class Sleeper(Engine):
    """An executor that answers after some seconds each."""

    def __init__(self, seconds):
        self.seconds = list(seconds)

    async def generate(self, request):
        await asyncio.sleep(self.seconds.pop(0))
        return [Generation("27", [1], None, "stop", 0, [1])]


def test_too_long_prompts_do_not_affect_their_batch(tiny_model):
    engine = make_engine("transformers", model=tiny_model, device="cpu")
    env = make_env(engine, executor_max_tokens=8)
    long = program("a = await self.custom(input=problem * 500, instruction='')\n" + RETURN)
    ends = play_many(env, MATH, [SIMPLE, long])
    assert [end.info["verdict"] for end in ends] == ["ok", "prompt_too_long"]


# --- a real server


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def served(server, **options):
    engine = {"name": "openai", "model": "served", "base_url": server.url, "backoff_s": 0.01, "max_retries": 2}
    return make_env_of({**engine, **options})


def make_env_of(engine):
    return WorkflowExecution(WorkflowConfig(tasks=ListTaskSet("toys", "train", [MATH]), engine=engine))


def test_served_executor_answers(server):
    answer = reply(body=completion(choice(r"\boxed{27}"), completion_tokens=9))
    server.script = lambda body, number: time.sleep(0.1) or answer
    env = served(server)
    ends = play_many(env, MATH, [SIMPLE] * 5)
    assert [end.rewards["writer"] for end in ends] == [1.0] * 5
    assert (ends[0].info["generated_tokens"], len(server.bodies)) == (9, 5)
    assert server.bodies[0]["messages"] == [{"role": "user", "content": f"Think.\n{MATH.question}"}]
    assert server.max_simultaneous > 1


@pytest.mark.parametrize("first", [reply(429), reply(500), reply(503), reply(body="{not json"), reply(cut=10)])
def test_temporary_server_failures_are_retried(server, first):
    server.script = lambda body, number: first if number == 0 else reply(body=completion(choice(r"\boxed{27}")))
    assert play(served(server), MATH, SIMPLE).rewards == {"writer": 1.0}
    assert len(server.bodies) == 2


@pytest.mark.parametrize("answer", [reply(429), reply(500), reply(401), reply(body="[]"), reply(body="{not json")])
def test_permanent_server_failures_are_not_paid_as_the_fault_of_the_program(server, answer):
    server.script = lambda body, number: answer
    with pytest.raises(EngineError, match=server.url):
        play(served(server), MATH, SIMPLE)


def test_unreachable_executors_are_not_paid_as_the_fault_of_the_program(server):
    server.close()
    env = served(server)
    with pytest.raises(EngineError, match="connection failed"):
        play(env, MATH, SIMPLE)
    server.close = lambda: None


def test_hanging_server_ends_at_the_time_limit(server):
    server.script = lambda body, number: time.sleep(1.5) or reply()
    env = served(server)
    env.config.execution_timeout = 0.3
    with pytest.raises(EngineError, match="did not answer"):
        play(env, MATH, SIMPLE)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (lambda body, number: reply(status=401), "the environment variable OPENAI_API_KEY"),
        (lambda body, number: reply(status=429), "status 429"),
        (lambda body, number: time.sleep(1.5) or reply(), "did not answer a short request within 0.2 s"),
    ],
)
def test_servers_are_checked(server, monkeypatch, script, message):
    asyncio.run(served(server).check_servers())
    monkeypatch.setattr("reason_envs.llm.engines.openai.engine.CHECK_S", 0.2 if "short" in message else 60)
    server.script = script
    with pytest.raises(EngineError, match=message):
        asyncio.run(served(server).check_servers())


def test_cost_counts_the_prompt_tokens_that_the_server_reports(server):
    server.script = lambda body, number: reply()
    end = play(served(server), MATH, SIMPLE)
    assert end.info["prompt_tokens"] == 5


def test_lone_surrogates_are_replaced(server):
    server.script = lambda body, number: reply(
        body='{"choices": [{"index": 0, "finish_reason": "stop", '
        '"message": {"role": "assistant", "content": "\\ud800 27"}}], '
        '"usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
    )
    assert play(served(server), MATH, SIMPLE).info["verdict"] == "ok"


# --- configuration


def write(tmp_path, text):
    file = tmp_path / "file.yaml"
    file.write_text(text)
    return file


def test_models_are_read_from_a_file_and_keys_from_the_environment(tmp_path, server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-mine")
    server.script = lambda body, number: reply(body=completion(choice(r"\boxed{27}"), prompt_tokens=100))
    file = write(
        tmp_path,
        f"models:\n  served:\n    base_url: {server.url}\n    api_key: ${{MY_KEY}}\n    temperature: 0.3\n"
        "    max_tokens: 7\n  other:\n    base_url: http://localhost:1/v1\n",
    )
    config = WorkflowConfig(
        tasks=ListTaskSet("toys", "train", [MATH]), aflow_config_path=str(file), aflow_executor_model="served"
    )
    env = WorkflowExecution(config)
    assert play(env, MATH, SIMPLE).rewards == {"writer": 1.0}
    assert (server.bodies[0]["temperature"], server.bodies[0]["max_tokens"]) == (0.3, 7)
    assert server.headers[0]["Authorization"] == "Bearer sk-mine"
    assert "sk-mine" not in repr(env.executors) + repr(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models:\n  a:\n    api_key: sk-abc123\n", "contains an api_key"),
        ("models: []\n", "write models"),
        ("- a\n", "must contain a mapping"),
        ("a: [\n", "Cannot read"),
    ],
)
def test_model_file_errors_do_not_repeat_keys(tmp_path, text, message):
    with pytest.raises(ReasonEnvsError, match=message) as caught:
        read_models(write(tmp_path, text))
    assert "sk-abc123" not in str(caught.value)


def test_description_file_errors_name_the_problem(tmp_path):
    with pytest.raises(ReasonEnvsError, match="Did you mean 'Custom'"):
        read_descriptions(write(tmp_path, "Custm: x\n"))
    with pytest.raises(ReasonEnvsError, match="must be a text"):
        read_descriptions(write(tmp_path, "Custom: 3\n"))
    with pytest.raises(ReasonEnvsError, match="does not exist"):
        read_descriptions(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": "short"}, "prompts"),
        ({"executors": {"Custon": "x"}}, "Did you mean 'Custom'"),
        ({"executors": None}, "must map operators"),
        ({"max_calls": 0}, "max_calls=0"),
        ({"execution_timeout": 0}, "execution_timeout=0"),
        ({"repair_cap": 2}, "repair_cap=2"),
        ({"aflow_executor_model": "x"}, "aflow_config_path"),
        ({"aflow_config_path": "x", "engine": "openai"}, "set one of them"),
        ({"aflow_config_path": "x"}, "does not exist"),
        ({"sandbox": "mont", "engine": ScriptedEngine("")}, "Did you mean 'monty'"),
        ({"reward": "tires", "engine": ScriptedEngine("")}, "tires"),
    ],
)
def test_config_errors_name_the_option(options, message):
    with pytest.raises(ReasonEnvsError, match=message):
        WorkflowExecution(WorkflowConfig(tasks=ListTaskSet("toys", "train", [MATH]), **options))


def test_incomplete_tasks_are_an_error(env):
    with pytest.raises(ReasonEnvsError, match="Unknown domain"):
        play(env, {"question": "?", "answer": "1", "metadata": {"domain": "maths"}}, SIMPLE)
    with pytest.raises(ReasonEnvsError, match=r"has domain 'code' and no tests"):
        play(env, {"question": "?", "answer": "1", "metadata": {"domain": "code"}}, SIMPLE)
    with pytest.raises(ReasonEnvsError, match="characters"):
        play(env, {"question": "?" * 200_001, "answer": "1"}, SIMPLE)


def test_code_of_executors_runs_in_the_sandbox():
    body = 'a = await self.p(problem=problem)\nreturn a["output"], 0'
    for code in (
        "import os\ndef solve(): return str(os.environ)",
        "def solve():\n    return open('/etc/passwd').read()",
    ):
        info = play(make_env(code), MATH, program(body, "p=Programmer")).info
        assert info["answer"].startswith("Error:")
        assert os.environ["PATH"] not in info["answer"]
    text = program(
        'a = await self.c(problem=problem, entry_point="f", instruction="")\nreturn a["response"], 0',
        "c=CustomCodeGenerate",
    )
    equal = "class E:\n    def __eq__(self, other): return True\ndef f(a):\n    return E()"
    assert play(make_env(equal), CODE, text).rewards == {"writer": 0.0}
