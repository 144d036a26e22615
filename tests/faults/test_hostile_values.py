"""Values that models and programs choose: no step raises an error, and none takes long."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_engine import ScriptedEngine
from workflow_toys import ASK, CODE, MATH, QA, RETURN, SIMPLE, TASKS, make_env, program

from agents.rollout.episodes import numbers
from agents.tracking.episode_records import plain, record
from agents.trajectory import Trajectory
from reason_envs import make_environment
from reason_envs.envs.petting.written_tests import golden_tests
from reason_envs.rewards import grade_math
from reason_envs.rewards.leak.find import find_leak
from reason_envs.rewards.math.worker_pool import DEFAULT_POOL
from reason_envs.sandbox import Limits, Program, make_sandbox
from reason_envs.sandbox.layers import detect
from reason_envs.sandbox.values import shown
from reason_envs.tasks import Task

SECONDS = 20.0
"""Limit of an episode, which runs up to three programs with limits of 0.5 to 2 seconds each."""
SHORT = {"program_seconds": 0.5}
"""Option of workflows that may be endless."""
NINES = "9" * 400
ANSWERS = [
    *(
        rf"\boxed{{{sign}{digits}{rest}}}"
        for sign in ("", "-")
        for digits in ("9", NINES, "9" * 4301)
        for rest in ("", ".5", "%", " m")
    ),
    rf"\boxed{{{NINES}/7}}",
    rf"\boxed{{7/{NINES}}}",
    rf"\boxed{{1/{'0' * 400}}}",
    rf"\boxed{{\frac{{{NINES}}}{{{NINES}1}}}}",
    rf"\boxed{{0.{'0' * 400}1}}",
    rf"\boxed{{1e{NINES}}}",
    r"\boxed{1e-999999}",
    r"\boxed{10^{10^{10}}}",
    r"\boxed{9^9^9^9}",
    rf"\boxed{{2^{{{NINES}}}}}",
    rf"\boxed{{{NINES}!}}",
    r"\boxed{\infty}",
    r"\boxed{nan}",
    r"\boxed{inf}",
    r"\boxed{1/0}",
    r"\boxed{٣٤٥}",
    r"\boxed{²}",
    *("31 ϖ", "\u017fix time\u017f 4", "6 t\u0131mes 4", "plu\u017f 31", "\u017fqrt 4", "2 \u212a", "\u0130 = 31"),
    r"\boxed{1,000," + "000," * 500 + "000}",
    rf"#### {NINES}",
    f"The answer is {'1' * 5000}.",
    rf"\sqrt{{{NINES}}} {NINES}^{NINES} {NINES}*{NINES}",
    "(" * 3000 + "1" + ")" * 3000,
    r"\frac{" * 500 + "1",
    "\ud800 \\boxed{\udfff}",
    "\x00\\boxed{\x00}",
]
VALUES = {
    "a whole number": "10**5000",
    "a negative number": "-10**5000",
    "numbers in a list": "[10**5000, 1]",
    "numbers in a mapping": "{10**5000: 10**5000}",
    "numbers in a set": "{10**5000}",
    "infinity": "1e308 * 10",
    "not a number": "1e308 * 10 - 1e308 * 10",
    "a complex number": "1j * 1e308 * 10",
    "shared parts": "shared()",
    "a value in itself": "cyclic()",
    "a deep value": "deep()",
    "a long list": "list(range(3 * 10**6))",
    "a long text": "'x' * 10**7",
    "bytes": "b'\\xff' * 1000",
    "a lone surrogate": "'\\ud800'",
    "a function": "shared",
    "an instance": "Thing()",
    "an exception": "ValueError('\\ud800')",
    "a type": "int",
    "a dot-dot-dot": "...",
    "a range": "range(10**9)",
    "None": "None",
    "truth": "True",
}
MAKERS = """def shared():
    a = 1
    for _ in range(30):
        a = [a, a]
    return a
def cyclic():
    a = []
    a.append(a)
    return a
def deep():
    a = []
    for _ in range(200):
        a = [a]
    return a
class Thing:
    def __init__(self):
        self.parts = shared()
    def __repr__(self):
        return "27"
    def __eq__(self, other):
        return True
"""


@pytest.fixture(scope="module", params=["monty", *(["native"] if not detect().missing else [])])
def sandbox(request):
    box = make_sandbox(request.param, workers=1)
    box.execute(Program("1", "", ("1",)))  # started
    box.limits_for = lambda seconds=1.0: Limits(min(seconds, 1.0))
    yield box
    box.close()


@pytest.fixture(autouse=True, scope="module")
def short_algebra():
    """Answers that take sympy long are given up after half a second instead of five, and compared once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DEFAULT_POOL, "limit", 0.5)
        patch.setattr(DEFAULT_POOL, "submit", cache(DEFAULT_POOL.submit))
        yield


def run(environment, *texts, task=None):
    """Play an episode in which the agent that acts writes the texts in turn; return the last result."""

    async def play():
        result = await environment.reset(seed=1, options={"task": task} if task else None)
        for turn in range(64):
            if result.done:
                break
            (agent,) = result.observations
            environment.render_messages(result.observations[agent])
            action = environment.parse_action(texts[turn % len(texts)])
            result = await environment.step({agent: action})
        return result

    environment.render_mode = "ansi"
    start = time.monotonic()
    end = asyncio.run(play())
    assert time.monotonic() - start < SECONDS
    text = environment.render()
    end.info["rendered"] = text.encode("utf-8", "replace").decode()
    numbers(end.info)
    episode = Trajectory("t", "e", [], True, False, numbers(end.info), {}, rendered=text, view=environment.view())
    json.dumps(plain(record(episode, task or environment.task)), allow_nan=False)
    return end


@pytest.mark.parametrize("text", ANSWERS, ids=range(len(ANSWERS)))
def test_hostile_answers_are_graded(text):
    for gold in ("27", "2.5", r"\frac{1}{3}", "0"):
        assert not grade_math(text, gold).correct or gold == "0"
        find_leak(text, "What is 20 + 7?", gold)
    task = Task("t", "What is 20 + 7?", "27", {"domain": "math"})
    for name in ("single_turn_math", "petting_math"):
        end = run(make_environment(name), text, task=task)
        assert (end.done, end.info["correct"]) == (True, False)
    end = run(make_environment("planner_solver", solver=ScriptedEngine(text)), text, task=task)
    assert end.rewards["planner"] == 0
    end = run(make_env(text), SIMPLE, task=MATH)
    assert end.rewards["writer"] < 1
    run(make_env(text), program(ASK + f"return {text!r}, 0"), task=MATH)


@settings(max_examples=300, deadline=None)
@given(
    st.text("0123456789.,/%eE+-*^(){}\\ fracsqrtboxedwim$πϖ\u017f\u0131\u0130\u212a", max_size=600),
    st.sampled_from(["27", "1/3", "2.5", "10^{40}"]),
)
def test_number_like_texts_have_a_leak_verdict(text, gold):
    find_leak(text, "What is it?", gold)


@pytest.mark.parametrize("name", VALUES)
def test_hostile_values_come_back_bounded(name, sandbox):
    peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    outcome = sandbox.execute(Program(MAKERS, "", (VALUES[name],), Limits(seconds=2)))
    assert time.monotonic() - start < 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 50 * 1024
    text = "".join(shown(value, 200, write) for value in outcome.values for write in (str, repr))
    assert len(text.encode()) <= 1600
    assert outcome.status in ("ok", "output", "timeout", "memory")


@pytest.mark.parametrize("name", VALUES)
def test_hostile_results_of_code_end_a_workflow_with_a_verdict(name, sandbox):
    code = f"```python\n{MAKERS}\ndef solve():\n    return {VALUES[name]}\ndef f(a):\n    return {VALUES[name]}\n```"
    programmer = program('a = await self.p(problem=problem)\nreturn a["output"], 0', "p=Programmer")
    tested = program(
        'a = await self.g(problem=problem, entry_point=entry_point, instruction="x")\n'
        'b = await self.t(problem=problem, solution=a["response"], entry_point=entry_point)\nreturn b["solution"], 0',
        "g=CustomCodeGenerate",
        "t=Test",
        entry_point=True,
    )
    environment = make_env(code, sandbox=sandbox)
    assert run(environment, programmer, task=MATH).rewards["writer"] < 1
    assert run(environment, tested, task=CODE).rewards["writer"] < 1
    environment.close()


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("task", [MATH, QA, CODE], ids=["math", "qa", "code"])
def test_hostile_results_of_a_workflow_are_verdicts(name, task):
    body = "\n".join(f"{line}" for line in MAKERS.splitlines())
    for result in (f"({VALUES[name]}), 0", f"1, ({VALUES[name]})", f"({VALUES[name]})"):
        end = run(make_env(**SHORT), f"{body}\n{program('return ' + result)}", task=task)
        assert end.rewards["writer"] == 0


@pytest.mark.parametrize("field", ["input", "instruction"])
@pytest.mark.parametrize("name", VALUES)
def test_hostile_fields_of_operators_are_verdicts(name, field):
    fields = {"input": "problem", "instruction": "problem", field: VALUES[name]}
    call = ", ".join(f"{key}={value}" for key, value in fields.items())
    run(make_env(**SHORT), f"{MAKERS}\n{program(f'a = await self.custom({call})' + chr(10) + RETURN)}", task=MATH)
    loops = f'await self.t(problem=problem, solution="x", entry_point="f", test_loop={VALUES[name]})\nreturn "x", 0'
    run(make_env(**SHORT), f"{MAKERS}\n{program(loops, 't=Test')}", task=CODE)


@pytest.mark.parametrize("name", VALUES)
def test_hostile_programs_of_a_team_cost_their_turn(name, sandbox):
    code = f"{MAKERS}\ndef f(*a):\n    return {VALUES[name]}\nprint({VALUES[name]})"
    environment = make_environment("petting_code", sandbox=sandbox, max_turns=1)
    entry = golden_tests(environment.tasks[0]).entry_point
    code = code.replace("def f(", f"def {entry}(")
    run(environment, code, f"assert {entry}(1) == 2")
    run(make_environment("petting_math", sandbox=sandbox, max_turns=1), code, r"\boxed{1}")
    environment.close()


@pytest.mark.parametrize(
    "test",
    [
        "f(1) == " + "9" * 5000,
        "f(0x" + "f" * 5000 + ") == 1",
        "f(1) == 0x" + "f" * 5000,
        "f({[1]: 2}) == 1",
        "f(1) == {[1]: 2}",
        "f({1, [2]}) == 1",
        "f(1e999) == 1e999",
        "f(-1e999) == 1j",
        "f(" + "[" * 90 + "]" * 90 + ") == 1",
        "f('\ud800') == '\ud800'",
        "f(b'\\xff') == ...",
        "f(*[1]) == 1",
        "f(**{}) == 1",
        "f(1) is 10",
        "not f(10**999)",
    ],
    ids=range(15),
)
def test_hostile_tests_of_a_team_cost_their_turn(test, sandbox):
    environment = make_environment("petting_code", sandbox=sandbox, max_turns=1)
    entry = golden_tests(environment.tasks[0]).entry_point
    run(environment, f"def {entry}(*a):\n    return 10**5000", f"assert {test}".replace("f(", f"{entry}("))
    environment.close()


def test_hostile_executors_of_workflows_are_answers():
    for text in ANSWERS:
        for operator in ("Review", "Revise"):
            extra = ', feedback="x"' if operator == "Revise" else ""
            part = "review_result" if operator == "Review" else "solution"
            body = f'a = await self.o(problem=problem, solution="x"{extra})\nreturn len(str(a["{part}"])), 0'
            run(make_env(text), program(body, f"o={operator}"), task=MATH)
        run(
            make_env(text),
            program('a = await self.e(solutions=["1", "2"], problem=problem)\nreturn a["response"], 0', "e=ScEnsemble"),
            task=MATH,
        )


def test_toy_tasks_have_all_domains():
    assert {task.metadata["domain"] for task in (TASKS[i] for i in range(3))} == {"math", "qa", "code"}
