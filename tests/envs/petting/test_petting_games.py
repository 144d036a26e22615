"""The rewards and rules of each Petting environment on hand-made cases."""

from __future__ import annotations

import asyncio

import pytest
from petting_toys import go, play

from reason_envs import make_environment
from reason_envs.envs.petting.written_tests import read_written_tests
from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards.code.tests import StdioTests, UnitTests
from reason_envs.sandbox.layers import detect
from reason_envs.tasks import Task, make

GRID = "P..\n.#.\n..G"
LEVEL = "#######\n#     #\n#@$ . #\n#     #\n#######"
PUZZLE = "12..\n3412\n2143\n4321"
ANSWER = "1234\n3412\n2143\n4321"
DOUBLE = Task(
    "double",
    "f(x): x, times 2",
    "def f(x):\n    return x * 2\n",
    {"test_list": ["assert f(1) == 2", "assert f(3) == 6"]},
)


def begin(name, question, **options):
    environment = make_environment(name, **options)
    task = question if isinstance(question, Task) else {"question": question, "answer": "7"}
    return environment, asyncio.run(environment.reset(seed=1, options={"task": task}))


def paid(environment, *texts):
    """The team and local rewards of texts that are answered one after the other."""
    infos = [go(environment, text).info for text in texts]
    return [(round(info["team_reward"], 6), round(info["local_reward"], 6)) for info in infos]


def test_plan_path_pays_for_distance_goal_and_shortest_path():
    assert paid(begin("petting_plan_path", GRID)[0], "print('RRDD')", "RR", "print('DD')", "DD") == [
        (0, 2.46),  # the whole value on a copy: 1 + 1 + 0.5, less four moves
        (0.5, -0.02),
        (0, -0.02),
        (2.0, -0.02),  # half the way, the goal, and a shortest path
    ]
    assert paid(begin("petting_plan_path", GRID)[0], "print('U')", "RULLRRRDD")[1] == (
        2.0,
        -0.39,
    )  # 3 blocked, a detour
    away = begin("petting_plan_path", "..P..G")[0]
    assert paid(away, "print('L')", "LL") == [(0, round(-1 / 3 - 0.01, 6)), (round(-2 / 3, 6), -0.02)]


def test_plan_path_that_ends_elsewhere_fails():
    environment, _ = begin("petting_plan_path", GRID, max_turns=1)
    assert paid(environment, "print('R')", "R") == [(0, 0.24), (-0.75, -0.01)]
    assert environment.state.done


def test_sokoban_pays_boxes_distance_and_the_win():
    environment, _ = begin("petting_sokoban", LEVEL)
    assert paid(environment, "print('RR')", "R", "print('R')", "R") == [
        (0, 11.18),  # two cells nearer, on the goal, the win, less two moves
        (0.1, -0.01),
        (0, -0.01),
        (11.1, -0.01),
    ]
    assert environment.state.done


def test_a_box_that_goes_on_and_off_its_goal_earns_nothing():
    two = "########\n#      #\n# @$.  #\n#      #\n# $  . #\n########"
    environment, _ = begin("petting_sokoban", two)
    on, off = paid(environment, "print('U')", "R", "print('U')", "URRDL")[1::2]
    assert on[0] == 1.1
    assert off[0] == -1.1


def test_a_deadlock_costs_the_role_that_makes_it():
    environment, _ = begin("petting_sokoban", "######\n#    #\n#@$. #\n#  $.#\n#    #\n######")
    assert paid(environment, "print('DRU')", "DRU")[1] == (-0.1, -1.03)
    assert paid(environment, "print('D')", "D")[1][1] == -0.01  # once


def test_sudoku_pays_right_cells_and_keeps_its_clues():
    environment, _ = begin("petting_sudoku", PUZZLE)
    relabelled = ANSWER.translate(str.maketrans("12", "21"))  # full and without conflicts, but of another puzzle
    assert paid(environment, f"print({relabelled!r})", relabelled) == [(0, -1.0), (0, -1.0)]
    info = go(environment, f"print({ANSWER!r})").info
    assert (info["success"], info["illegal_moves"], info["local_reward"]) == (False, 2, 2.99)
    partly = PUZZLE.replace("12..", "123.")
    assert go(environment, partly).info["team_reward"] == 0.5
    assert paid(environment, "print(grid)", PUZZLE.replace("12..", "1233"))[1] == (0, -0.51)
    info = go(environment, "print('?')").info
    assert info["unparsable_actions"] == 1
    assert paid(environment, ANSWER) == [(2.5, -0.01)]
    assert environment.state.done


def test_the_sudoku_board_shows_clues_and_what_stands():
    environment, _ = begin("petting_sudoku", PUZZLE)
    go(environment, "print(grid)")
    result = go(environment, PUZZLE.replace("12..", "123."))
    assert f"{PUZZLE}\n\n123." in result.observations["tool"]


def test_the_form_of_boxes_is_told_where_it_is_not_plain():
    (task,) = make({"name": "sudoku", "side": 6, "size": 1})
    _, result = begin("petting_sudoku", task)
    assert result.observations["tool"] == f"tool 1/4\n{task.question}\nA box has 2 rows and 3 columns."
    _, result = begin("petting_sudoku", PUZZLE)
    assert result.observations["tool"] == f"tool 1/4\n{PUZZLE}"


def test_programs_are_given_the_grid_and_change_only_a_copy():
    for name, question, code, shown in [
        ("petting_plan_path", GRID, "print('R' * grid[0].count('.'))", "RR no goal"),
        ("petting_sokoban", LEVEL, "print('R' * (grid[2].index('.') - grid[2].index('$')))", "RR solved"),
        (
            "petting_sudoku",
            PUZZLE,
            "grid[0][2:] = [3, 4]\nfor row in grid:\n    print(*row)",
            "1234/3412/2143/4321 solved",
        ),
    ]:
        environment, _ = begin(name, question)
        game = environment.state.game
        result = go(environment, f"Let me think.\n```python\n{code}\n```")
        assert f"= {shown}" in result.observations["planner"]
        assert environment.state.game == game
        assert not result.info["success"]


@pytest.mark.parametrize(
    ("name", "question", "before", "contribution"),
    [
        ("petting_plan_path", GRID, ["print('RRDD')", "DUR"], "print('RDD')"),  # no shortest path is left
        ("petting_sokoban", LEVEL, ["print('RR')", "URRRDL"], "print('U')"),  # the box stands at the wall for good
        ("petting_sudoku", PUZZLE, [f"print({ANSWER!r})", "?"], f"print({PUZZLE.replace('12..', '123.')!r})"),
        ("petting_code", DOUBLE, ["def f(x): return 0", "assert f(3) == 6", "def f(x): return 0"], "assert f(2) == 4"),
    ],
)
@pytest.mark.parametrize("worthless", [None, "", "print(", "print('?')", "x" * 5_000])
def test_contributing_less_than_before_pays_better_than_contributing_nothing(
    name, question, before, contribution, worthless
):
    environment, _ = begin(name, question)
    for text in before:
        go(environment, text)
    less, nothing = (go(environment.fork(), text).info["local_reward"] for text in (contribution, worthless))
    assert less < 0
    assert nothing < less


def test_math_ends_when_both_agree_even_on_a_wrong_answer():
    environment, _ = begin("petting_math", "3 + 4 =")
    assert paid(environment, "print(3 + 4)", r"\boxed{8}") == [(0, 1.0), (0, 0)]
    assert not environment.state.done
    assert paid(environment, "print(9)", r"\boxed{7}") == [(0, -1.0), (1.0, 0)]
    assert not environment.state.done
    assert paid(environment, "print(8)", r"\boxed{8.0}") == [(0, 0), (-1.0, 0)]
    assert environment.state.done
    agreed, _ = begin("petting_math", "3 + 4 =")
    result = play(agreed, lambda e: "print(14 / 2)" if e.role == "tool" else r"It is \boxed{7}.")[-1]
    assert result.info["success"]


def test_the_latest_program_counts():
    environment, _ = begin("petting_math", "3 + 4 =")
    go(environment, "print(7)")
    go(environment, r"\boxed{6}")
    assert paid(environment, "nonsense(") == [(0, -1.1)]  # what it printed before is withdrawn
    go(environment, r"\boxed{7}")
    assert not environment.state.done


def test_code_pays_the_coder_by_golden_tests_and_ends_by_the_testers():
    environment, _ = begin("petting_code", DOUBLE)
    assert paid(environment, "def f(x): return 2", "assert f(1) == 3") == [(0.5, 0), (0, 0)]
    assert paid(environment, "def f(x): return 6", "assert f(1) == 6")[0] == (0, 0)
    assert environment.state.done  # the tester's test passes
    wrong = environment.state.game
    assert wrong.share == 0.5
    right, _ = begin("petting_code", DOUBLE)
    *_, last = play(right, lambda e: "def f(x): return x + x" if e.role == "coder" else "assert f(5) == 10")
    assert last.info["success"]


def test_the_tester_earns_by_its_mutation_score():
    earned = {}
    for tests in (
        "assert f(0) == 0",
        "assert f(2) == 4",
        "assert f(3) == 6",
        "assert f(3) == 5",
        "assert f(3) == 6\nassert f(3) == 5",
        "assert f(2) == 4\nassert f(3) == 50",
    ):
        environment, _ = begin("petting_code", DOUBLE)
        go(environment, "def f(x): return 2 * x")
        earned[tests] = go(environment, tests).info["local_reward"]
    assert list(earned.values()) == [0.5, 0.5, 1.0, 0.0, 0.5, 0.25]  # mutants: x + 2 and x * 3


def test_mutants_that_are_right_too_are_left_out():
    """Of `x if x > 5 else 5`: `x >= 5` is right as well, the limits 6 and the answer 6 are not."""
    tests = {"test_list": ["assert f(3) == 5", "assert f(6) == 6", "assert f(9) == 9"]}
    environment, _ = begin(
        "petting_code", Task("five", "f(x): x, at least 5", "def f(x): return x if x > 5 else 5", tests)
    )
    go(environment, "def f(x): return max(x, 5)")
    assert go(environment, "assert f(6) == 6\nassert f(3) == 5").info["local_reward"] == 1.0


def test_tests_pass_on_no_program_that_nobody_wrote():
    head = 'def twice(x):\n    """Double."""\n'  # does something by itself
    tests = UnitTests("assert twice(1) == 2", "twice", "twice", f"{head}    return 2 * x", head)
    environment, _ = begin("petting_code", Task("twice", head, "", {"tests": tests}))
    go(environment, None)
    result = go(environment, "assert not twice(1)")
    assert not result.done
    assert "= 1/1 pass" in result.observations["coder"]


def test_the_golden_verdict_stays_hidden():
    seen = []
    for code in ("def f(x): return 2 * x", "def f(x): return 0"):
        environment, _ = begin("petting_code", DOUBLE)
        seen.append(go(environment, code).observations["tester"].replace(code, ""))
    assert seen[0] == seen[1]


def test_the_function_is_named_where_the_problem_does_not():
    task = Task("mbpp/1", "Write a function that doubles.", "", DOUBLE.metadata | {"code": DOUBLE.answer})
    _, result = begin("petting_code", task)
    assert result.observations["coder"].endswith("doubles.\nName: f")


def test_tests_that_need_a_whole_python_are_refused_at_once():
    tests = UnitTests("for i in range(3):\n    assert f(i) == 2 * i", "f", "f", DOUBLE.answer)
    with pytest.raises(ReasonEnvsError, match="sandbox=native"):
        begin("petting_code", Task("loop", "f(x): double x", "", {"tests": tests}))


def test_problems_that_read_standard_input():
    stdio = StdioTests((("1 2\n", "3\n"), ("4 5\n", "9\n")), "a, b = input().split()\nprint(int(a) + int(b))")
    environment, _ = begin("petting_code", Task("sum", "Add two numbers.", "", {"tests": stdio}))
    go(environment, "a, b = input().split()\nprint(int(a) * int(b))")
    info = go(environment, "assert run('4 5') == '9'\nassert run('1 1') == '2'").info
    assert (info["local_reward"] > 0, info["success"]) == (True, False)
    assert "run('4 5') gave '20'" in environment.observe("coder")
    go(environment, "print(sum(int(part) for part in input().split()))")
    assert go(environment, "assert run('4 5') == '9\\n'").info["success"]
    assert environment.state.done


def test_both_roles_are_told_of_standard_input():
    stdio = StdioTests((("1\n", "2\n"),), "print(int(input()) + 1)")
    environment, result = begin("petting_code", Task("next", "Add one.", "", {"tests": stdio}))
    assert result.observations["coder"] == "coder 1/4\nAdd one.\nThe program reads standard input and prints."
    seen = go(environment, "print(int(input()) + 1)").observations["tester"]
    (example,) = [line.split(": ")[1] for line in seen.splitlines() if "assert run(" in line]
    assert go(environment, example).info["valid_action"]
    environment, result = begin("petting_code", DOUBLE)
    assert "standard input" not in result.observations["coder"]
    assert "run(" not in go(environment, "def f(x): return 2 * x").observations["tester"]


def test_forks_look_for_mutants_once_and_ask_them_together():
    environment, _ = begin("petting_code", DOUBLE)
    go(environment, "def f(x): return 2 * x")
    judge, graded, runs = environment.judge, [], []
    grade, run = judge.grade, judge.run

    async def counted_grade(code, tests):
        graded.append(code)
        return await grade(code, tests)

    async def counted_run(*arguments):
        runs.append("in")
        outcomes = await run(*arguments)
        runs.append("out")
        return outcomes

    judge.grade, judge.run = counted_grade, counted_run

    async def play():
        return await asyncio.gather(*(environment.fork().step({"tester": "assert f(3) == 6"}) for _ in range(4)))

    assert {result.info["local_reward"] for result in asyncio.run(play())} == {1.0}
    assert len(graded) == len(set(graded)) > 0
    runs.clear()
    asyncio.run(judge.score(environment.state.game.tests, read_written_tests("assert f(3) == 6", "f").cases))
    assert runs == ["in", "out", "in", "in", "out", "out"], "the right program, then both mutants at the same time"


def test_tests_of_other_forms_come_with_the_task():
    tests = UnitTests("assert f(1) == 2", "f", "f", "def f(x):\n    return x + 1")
    environment, _ = begin("petting_code", Task("given", "Add one.", "", {"tests": tests}))
    assert go(environment, "def f(x): return x + 1").info["team_reward"] == 1.0
    with pytest.raises(ReasonEnvsError, match="no right program"):
        begin("petting_code", Task("bare", "Add one.", "", {"tests": UnitTests("assert f(1) == 2", "f", "f")}))
    with pytest.raises(ReasonEnvsError, match="Task 'bare' has no tests, only a question and an answer"):
        begin("petting_code", Task("bare", "Add one.", "def f(x): return x + 1"))
    with pytest.raises(ReasonEnvsError, match=r"Task 'bare' has no tests among its other fields \['level'\]"):
        begin("petting_code", Task("bare", "Add one.", "def f(x): return x + 1", {"level": 3}))


@pytest.mark.slow
def test_problems_in_the_format_of_humaneval():
    if detect().missing:
        pytest.skip(f"the native sandbox lacks {detect().missing} here")
    record = {
        "entry_point": "twice",
        "test": "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(2) == 4\n",
    }
    prompt = "def twice(x):\n"
    task = Task("twice", prompt, "    return 2 * x\n", record)
    environment, _ = begin("petting_code", task, sandbox={"name": "native", "workers": 2})
    assert go(environment, "    return x + x\n").info["team_reward"] == 1.0
    info = go(environment, "assert twice(3) == 6").info
    environment.close()
    assert (info["success"], info["local_reward"] > 0) == (True, True)
    assert environment.state.done
