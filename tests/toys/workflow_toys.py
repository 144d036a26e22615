"""Workflow programs and scripted executors for the tests of WorkflowExecution-v0."""

from __future__ import annotations

import asyncio
from functools import cache

from scripted_engine import ScriptedEngine

from reason_envs.batching import gather
from reason_envs.envs.workflow.config import WorkflowConfig
from reason_envs.envs.workflow.environment import WorkflowExecution
from reason_envs.envs.workflow.interpreter import Interpreter
from reason_envs.tasks.base import Task
from reason_envs.tasks.task_list import ListTaskSet

MATH = Task("math/0", "What is 20 + 7?", "27", {"domain": "math"})
QA = Task(
    "qa/0",
    "Max is in the school. Ann has the red ball. Leo is in the park.\nWhat does Ann have?",
    "red ball",
    {"domain": "qa"},
)
CODE = Task(
    "code/0",
    "Write a function f(a) that returns twice a.",
    "def f(a):\n    return 2 * a",
    {
        "domain": "code",
        "entry_point": "f",
        "public_tests": ["assert f(1) == 2"],
        "tests": {
            "code": "def f(a):\n    return 2 * a",
            "test_list": ["assert f(1) == 2", "assert f(2) == 4", "assert f(3) == 6", "assert f(0) == 0"],
        },
    },
)
TASKS = ListTaskSet("toys", "train", [MATH, QA, CODE])


def program(body, *operators, entry_point=False):
    """A workflow with a body, which builds operators by their usual names."""
    names = operators or ("custom=Custom",)
    built = [f"        self.{name} = operator.{kind}(self.llm)" for name, kind in (n.split("=") for n in names)]
    lines = [
        "class Workflow:",
        "    def __init__(self, name, llm_config, dataset):",
        "        self.llm = create_llm_instance(llm_config)",
        *built,
        f"    async def __call__(self, problem{', entry_point' if entry_point else ''}):",
        *(f"        {line}" for line in body.split("\n")),
    ]
    return "\n".join(lines)


ASK = 'a = await self.custom(input=problem, instruction="Think.")\n'
RETURN = 'return a["response"], self.llm.get_usage_summary()["total_cost"]'
SIMPLE = program(ASK + RETURN)


@cache
def interpreter(seconds):
    """Return the interpreter that all environments with a time limit share, because its first check is slow."""
    return Interpreter(seconds)


def make_env(script=r"20 + 7 = 27\n\boxed{27}", **options):
    engine = script if hasattr(script, "generate") else ScriptedEngine(script)
    environment = WorkflowExecution(WorkflowConfig(**{"tasks": TASKS, "engine": engine, **options}))
    environment.interpreter = interpreter(environment.config.program_seconds)
    return environment


async def play_one(env, task, text, seed=0):
    await env.reset(seed=seed, options={"task": task})
    return await env.step({"writer": text})


def play(env, task, text, seed=0):
    """Play one episode; return its last result."""
    return asyncio.run(play_one(env, task, text, seed))


def play_many(env, task, texts):
    """Play one episode per text at the same time, on forks."""

    async def main():
        return await gather(*(play_one(env.fork(), task, text, seed) for seed, text in enumerate(texts)))

    return asyncio.run(main())


def verdict(env, task, text):
    info = play(env, task, text).info
    return info["verdict"]
