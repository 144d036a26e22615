"""Grading of programs: which pass, which fail, and that no program can cheat."""

import asyncio

import pytest

from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards import make_reward
from reason_envs.rewards.code.grade import CodeGrader, CodeReward
from reason_envs.rewards.code.tests import StdioTests, UnitTests, read_tests, split
from reason_envs.sandbox import Program, make_sandbox
from reason_envs.sandbox.layers import detect
from reason_envs.tasks.base import Task

HUMANEVAL = {
    "prompt": 'def helper(x):\n    return x + 1\n\n\ndef twice(x):\n    """Double."""\n',
    "entry_point": "twice",
    "canonical_solution": "    return 2 * x\n",
    "test": "META = {'a': 1}\n\ndef check(candidate):\n    assert candidate(1) == 2\n"
    "    assert candidate(x=2) == 4, 'no'\n"
    "    assert not candidate(0)\n    assert True\n",
}
MBPP = {
    "test_imports": ["import math"],
    "test_list": ["assert math.isclose(half(1), 0.5)", "assert math.isclose(half(5), 2.5)"],
    "code": "def half(x):\n    return x / 2",
}
LOOPS = UnitTests(
    "for i in range(5):\n    assert f(f(i)) == i + 2\n"
    "try:\n    f('a')\nexcept TypeError:\n    pass\nelse:\n    assert False",
    "f", "f", "def f(x):\n    return x + 1",
)  # fmt: skip
NAMES = UnitTests("assert f(2) == 4\nassert f(3) is True\nassert f([1])", "f", "f")


@pytest.fixture(scope="module")
def grader():
    if detect().missing:
        pytest.skip(f"the native sandbox lacks {detect().missing} here")
    sandbox = make_sandbox("native", workers=2)
    yield CodeGrader(sandbox)
    sandbox.close()


def grade(grader, code, tests):
    found = asyncio.run(grader.grade(code, tests))
    return found.correct, found.passed, found.total, found.reason


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("    return x + x\n", (True, 3, 3, "passed")),
        ("def twice(x):\n    return 2 * x", (True, 3, 3, "passed")),
        ("    return helper(x)\n", (False, 1, 3, "failed")),
        ("    pass\n", (False, 1, 3, "failed")),
        ("    return 1 / 0\n", (False, 0, 3, "failed")),
        ("def other(): pass", (False, 1, 3, "failed")),
        ("def twice(:", (False, 0, 3, "error")),
        ("import os\nos._exit(0)", (False, 0, 3, "killed")),
        ("def twice(x):\n    import os\n    os._exit(0)", (False, 0, 3, "killed")),
        ("raise SystemExit", (False, 1, 3, "failed")),
        (" \n", (False, 0, 3, "no_code")),
    ],
)
def test_grade_humaneval(grader, code, expected):
    assert grade(grader, code, read_tests(HUMANEVAL)) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def half(x): return 0.5 * x", (True, 2, 2, "passed")),
        ("def half(x): return 0.5", (False, 1, 2, "failed")),
        ("def half(x): pass", (False, 0, 2, "failed")),
        ("def half(x):\n    while True: pass", (False, 0, 2, "timeout")),
    ],
)
def test_grade_replays_mbpp_with_a_tolerance(grader, code, expected):
    tests = read_tests(MBPP)
    assert split(tests) is None
    assert grade(grader, code, tests) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def f(x): return 1 + x", (True, 5, 5, "passed")),
        ("def f(x): return x + 2", (False, 0, 5, "failed")),
        ("def f(x): return x + 1 if isinstance(x, int) else 0", (False, 4, 5, "failed")),
    ],
)
def test_grade_replays_loops_and_expected_exceptions(grader, code, expected):
    assert grade(grader, code, LOOPS) == expected


EVERYTHING = (
    "class E:\n    def __eq__(self, o): return True\n    def __bool__(self): return True\n"
    "    def __sub__(self, o): return 0\n"
)


@pytest.mark.parametrize(
    "trick",
    [
        EVERYTHING + "def {f}(*a, **k): return E()",
        "class I(int):\n    def __eq__(self, o): return True\n    __hash__ = None\ndef {f}(*a, **k): return I(77)",
        "import builtins\nbuiltins.bool = lambda x: True\ndef {f}(*a, **k): return None",
        "import sys\ndef {f}(*a, **k):\n    frame = sys._getframe()\n    while frame:\n"
        "        for v in frame.f_locals.values():\n"
        "            if isinstance(v, list): return v\n        frame = frame.f_back",
        'import os\nos.write(3, b\'["value", true]\\n["value", true]\\n["value", true]\\n["ok"]\\n\')\nos._exit(0)',
        "print('passed')\nraise SystemExit(0)",
        "import unittest\ndef {f}(*a, **k): raise AssertionError",
        "def {f}(*a, **k): return float('nan')",
        "def {f}(*a, **k): return [[[[]]]] * 50",
    ],
)
@pytest.mark.parametrize("tests", [read_tests(HUMANEVAL), read_tests(MBPP), LOOPS], ids=["split", "replay", "loops"])
def test_grade_fails_cheating_programs(grader, trick, tests):
    assert not asyncio.run(grader.grade(trick.replace("{f}", tests.entry_point), tests)).correct


def test_grade_fails_deeply_nested_answers(grader):
    deep = "def half(x):\n    y = []\n    for _ in range({n}): y = [y]\n    return y"
    for depth in (38, 45, 900):
        assert grade(grader, deep.replace("{n}", str(depth)), read_tests(MBPP)) == (False, 0, 2, "failed")


def test_split_known_assertions():
    cases = split(NAMES)
    assert [case.expression for case in cases] == ["f(2)", "f(3)", "f([1])"]
    assert [case.accepts(value) for case, value in zip(cases, (4, 1, "x"), strict=True)] == [True, False, True]
    for other in (
        "assert f(1) < 2",
        "assert f(x) == 1",
        "x = f(1)\nassert x",
        "assert f(1) == f(2)",
        "assert 1 < f(1) < 3",
    ):
        assert split(UnitTests(other, "f", "f")) is None
    assert split(UnitTests("assert True", "f", "f")) is None  # no case remains


def test_grade_without_a_reference(grader):
    tests = UnitTests("assert f(1) == 2\nassert abs(f(2) - 3) < 1e-6", "f", "f", preamble="def f(x): raise ValueError")
    assert grade(grader, "def f(x): return x + 1", tests) == (True, 2, 2, "passed")
    tests = UnitTests("y = f(1)\nassert y == 2", "f", "f", preamble="def f(x): raise ValueError")
    with pytest.raises(ReasonEnvsError, match="no reference solution; add one"):
        grade(grader, "def f(x): return x + 1", tests)


def test_grade_refuses_a_wrong_reference(grader):
    with pytest.raises(ReasonEnvsError, match="do not pass"):
        grade(grader, "def half(x): pass", read_tests({**MBPP, "code": "def half(x): return x"}))
    with pytest.raises(ReasonEnvsError, match="passes 1 of its 3"):
        grade(grader, "x", read_tests({**HUMANEVAL, "canonical_solution": "    return 0\n"}))


SUMS = StdioTests((("1 2\n", "3\n"), ("5 5\n", "10")), "print(sum(map(int, input().split())))")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("a, b = map(int, input().split())\nprint(a + b, '')\nprint()", (True, 2, 2, "passed")),
        ("print(3)", (False, 1, 2, "failed")),
        ("print(3)\n1 / 0", (False, 0, 2, "error")),
        ("print(open('/proc/self/environ').read())", (False, 0, 2, "error")),
        ("while True: print(3)", (False, 0, 2, "output")),
    ],
)
def test_grade_inputs_and_outputs(grader, code, expected):
    assert grade(grader, code, SUMS) == expected


def test_read_tests_formats_and_errors():
    assert read_tests({"inputs": ["a"], "outputs": ["b"]}) == StdioTests((("a", "b"),))
    with pytest.raises(ReasonEnvsError, match="has no tests"):
        read_tests({"question": "?"})
    with pytest.raises(ReasonEnvsError, match="defines only"):
        read_tests({**MBPP, "code": "def other(): pass"})


def test_code_reward_values_and_info(grader):
    reward = make_reward("code", sandbox=grader.sandbox, correct=2.0)
    assert isinstance(reward, CodeReward)
    task = Task("1", "?", "", {"tests": HUMANEVAL})
    good = asyncio.run(reward("```python\ndef twice(x): return x * 2\n```", task, 0))
    bad = asyncio.run(reward("```python\n```", task, 0))
    assert (good.value, good.info["correct"], good.info["passed"]) == (2.0, True, 3)
    assert not good.info["unusable_tests"]
    assert (bad.value, bad.info["no_answer"]) == (-0.5, True)


def test_code_reward_is_zero_for_unusable_tests_and_logs_once(grader, caplog):
    reward = make_reward("code", sandbox=grader.sandbox)
    task = Task("odd/7", "?", "", {"tests": {**HUMANEVAL, "canonical_solution": "    return 0\n"}})
    paid = [asyncio.run(reward(text, task, 0)) for text in ("def twice(x): return x * 2", "def twice(x): return 0", "")]
    assert {one.value for one in paid} == {0.0}
    assert all(one.info["unusable_tests"] and not one.info["correct"] for one in paid)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "'odd/7'" in message
    assert "passes 1 of its 3" in message


@pytest.mark.parametrize(
    "end", ["", "import sys\nsys.exit()", "exit()", "quit()", "exit(0)", "quit(None)", "raise SystemExit"]
)
@pytest.mark.parametrize("name", ["native", "monty"])
def test_grade_accepts_programs_that_leave(grader, name, end):
    if name == "monty" and "sys" in end:
        pytest.skip("Monty has no sys.exit")
    own = grader if name == "native" else CodeGrader(make_sandbox("monty", workers=1))
    assert grade(own, f"print(sum([int(n) for n in input().split()]))\n{end}", SUMS) == (True, 2, 2, "passed")
    assert grade(own, "print(3)\nexit(1)", SUMS) == (False, 0, 2, "error")
    if own is not grader:
        own.sandbox.close()


LONG = "print('x' * 100_000)"
LARGE = UnitTests("assert f(9) == [9] * 20_000\nassert f(8) == [8] * 20_000", "f", "f", "def f(x): return [x] * 20_000")


def test_output_of_the_reference_is_never_too_large(grader):
    assert grade(grader, LONG, StdioTests((("", "x" * 100_000),), LONG)) == (True, 1, 1, "passed")
    assert grade(grader, LONG, StdioTests((("", "x" * 100_000),))) == (True, 1, 1, "passed")
    assert grade(grader, "print('x' * 300_000)", StdioTests((("", "x" * 100_000),))) == (False, 0, 1, "output")
    assert grade(grader, "def f(x): return [x] * 20_000", LARGE) == (True, 2, 2, "passed")


@pytest.mark.parametrize("name", ["native", "monty"])
def test_output_limit_is_an_option_of_the_sandbox(name):
    if name == "native" and detect().missing:
        pytest.skip(f"the native sandbox lacks {detect().missing} here")
    sandbox = make_sandbox({"name": name, "workers": 1, "output_bytes": 1000})
    outcome = asyncio.run(sandbox.run(Program("print('x' * 5000)", limits=sandbox.limits_for())))
    sandbox.close()
    assert (outcome.status, outcome.reason) == ("output", "more than 1000 bytes of output")
    with pytest.raises(ReasonEnvsError, match=r"output_bytes=0 must be at least 1"):
        make_sandbox(name, output_bytes=0)
