"""The Monty sandbox: small programs with the same outcomes as in the other sandboxes."""

import asyncio
import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

import reason_envs
from reason_envs.errors import ReasonEnvsError
from reason_envs.sandbox import Limits, Program, Raised, make_sandbox


@pytest.fixture(scope="module")
def sandbox():
    sandbox = make_sandbox("monty", workers=2)
    yield sandbox
    sandbox.close()


def test_monty_prints_reads_and_evaluates(sandbox):
    source = "a = input('? ')\nprint('got', a)\ndef f(x):\n    return (x, {1, 2}, 2**70, [1.5])"
    outcome = sandbox.execute(Program(source, "one\n", ("f('é')", "1 / 0", "input()")))
    assert (outcome.status, outcome.stdout) == ("ok", "? got one\n")
    assert outcome.values[0] == ("é", {1, 2}, 2**70, [1.5])
    assert outcome.values[1] == Raised("ZeroDivisionError", "ZeroDivisionError: division by zero")
    assert "EOF when reading a line" in outcome.values[2].message


@pytest.mark.parametrize(
    ("source", "status", "words"),
    [
        ("1 / 0", "error", "ZeroDivisionError"),
        ("def", "error", "SyntaxError"),
        ("class A(list): pass", "error", "inheritance"),
        ("while True: pass", "timeout", "time limit"),
        ("x = [0] * 10**9", "memory", "memory limit"),
        ("while True: print('x' * 1000)", "output", "bytes of output"),
        ("while True:\n    try:\n        print('x' * 1000)\n    except Exception: pass", "output", "bytes of output"),
        ("x = '\ud800'", "error", ""),
        ("x = '\0'", "ok", ""),
    ],
)
def test_monty_returns_an_outcome_for_every_end(sandbox, source, status, words):
    outcome = sandbox.execute(Program(source, limits=Limits(seconds=1.0)))
    assert outcome.status == status, outcome
    assert words in outcome.reason
    assert len(outcome.stdout) <= Limits().output_bytes


def test_monty_skips_sleep(sandbox):
    outcome = sandbox.execute(Program("import time\ntime.sleep(1000)\nx = 1", expressions=("x",)))
    assert outcome.value == 1
    assert outcome.seconds < 10


def test_monty_limits_the_total_time_of_program_and_expressions(sandbox):
    source = "def f():\n    for i in range(10**9): pass"
    outcome = sandbox.execute(Program(source, expressions=("1", "f()", "2"), limits=Limits(seconds=0.5)))
    assert (outcome.status, outcome.values) == ("timeout", (1,))


def test_monty_expressions_share_the_time_that_the_program_leaves(sandbox):
    spend = "def spend(n):\n    for i in range(n): pass\n"
    sandbox.execute(Program(""))
    second = sandbox.execute(Program(f"{spend}spend(10**6)")).seconds / 10**6
    source = f"{spend}spend({int(2.7 / second)})"
    outcome = sandbox.execute(Program(source, expressions=("spend(10**10)",), limits=Limits(seconds=3.0)))
    assert outcome.status == "timeout"
    assert outcome.seconds < 5.2  # with a new limit for the expression it would be 5.7 seconds


def test_monty_ends_a_print_of_a_value_that_shares_itself(sandbox):
    source = "a = [1]\nfor _ in range(40): a = [a, a]\n"
    outcome = sandbox.execute(Program(f"{source}print(a)", limits=Limits(seconds=1.0)))
    assert outcome.status in ("timeout", "memory")  # the interpreter does not look at its clock
    outcome = sandbox.execute(Program(source, expressions=("str(a)", "1"), limits=Limits(seconds=1.0)))
    assert (outcome.status in ("timeout", "memory"), outcome.values) == (True, ())
    assert sandbox.execute(Program("", expressions=("2",))).value == 2


def test_monty_limits_the_size_of_values(sandbox):
    outcome = sandbox.execute(Program("", expressions=("'x' * 200000", "2")))
    assert outcome.status == "output"


def test_monty_runs_many_programs_at_once(sandbox):
    async def main():
        return await asyncio.gather(*(sandbox.run(Program("", expressions=(f"{i} + 1",))) for i in range(20)))

    assert [outcome.value for outcome in asyncio.run(main())] == list(range(1, 21))


def test_monty_restarts_after_close(sandbox):
    sandbox.close()
    assert sandbox.execute(Program("", expressions=("1",))).value == 1


def test_monty_runs_in_a_nested_virtual_environment(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "above")], check=True)
    below = [sysconfig.get_path("purelib"), str(Path(reason_envs.__file__).parents[1])]
    script = f"import site, sys\nfor path in {below}: site.addsitedir(path)\n" + (
        "from reason_envs.sandbox import Program, make_sandbox\n"
        "print(make_sandbox('monty', workers=1).execute(Program('x = 6', expressions=('x * 7',))).value)\n"
    )
    python = next((tmp_path / "above").glob("*/python"))
    done = subprocess.run([str(python), "-c", script], capture_output=True, text=True, env={"PATH": ""}, check=False)
    assert done.stdout == "42\n", done.stderr


def test_monty_refuses_a_forked_process():
    sandbox = make_sandbox("monty", workers=1)
    assert sandbox.execute(Program("", expressions=("1",))).values == (1,)
    pid = os.fork()
    if pid == 0:
        try:
            with pytest.raises(ReasonEnvsError, match=r"was forked from .* whose threads do not survive a fork"):
                sandbox.execute(Program(""))
            sandbox.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert sandbox.execute(Program("", expressions=("2",))).values == (2,)
    sandbox.close()


@pytest.mark.parametrize(
    ("source", "stdin", "printed"),
    [
        (
            "x = 0\nfor _ in range(int(input())): x += int(input())\nprint(x)",
            "5000\n" + "2\n" * 5000,
            "10000",
        ),
        ("print(input(5), input(None), input([1, 'a']), input())", "a\nb\nc\nd\n", "5None[1, 'a']a b c d"),
        ("read = input\nprint([read() for _ in range(2)])", "a\nb", "['a', 'b']"),
        ("print(1)\nexit(0)\nprint(2)", "", "1"),
        ("print(1)\nquit()", "", "1"),
        ("def exit(x): print(x)\nexit(3)", "", "3"),
    ],
)
def test_monty_programs_read_lines_and_exit(sandbox, source, stdin, printed):
    outcome = sandbox.execute(Program(source, stdin))
    assert (outcome.status, outcome.stdout.strip()) == ("ok", printed), outcome


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("input()", "EOF when reading a line"),
        ("while True:\n    try: input()\n    except Exception: pass", "limit"),
        ("exit(3)", "SystemExit: 3"),
        ("exit('bad')", "SystemExit: bad"),
        ("input(1, 2)", "TypeError"),
        ("input(print='x')", "TypeError"),
    ],
)
def test_monty_names_wrong_inputs_and_exits(sandbox, source, words):
    outcome = sandbox.execute(Program(source, limits=Limits(seconds=2.0)))
    assert outcome.status == "error"
    assert words in outcome.reason


@pytest.mark.parametrize("function", ["input", "exit"])
def test_monty_does_not_write_out_values_that_share_themselves(sandbox, function):
    start = time.monotonic()
    source = f"a = [1]\nfor _ in range(40): a = [a, a]\n{function}(a)"
    outcome = sandbox.execute(Program(source, limits=Limits(seconds=1.0)))
    assert outcome.status in ("timeout", "memory", "error")
    assert time.monotonic() - start < 4
