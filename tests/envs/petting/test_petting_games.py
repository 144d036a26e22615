"""Rewards and rules of each Petting environment in cases with known numbers."""

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


def start_on(name, question, **options):
    environment = make_environment(name, **options)
    task = question if isinstance(question, Task) else {"question": question, "answer": "7"}
    return environment, asyncio.run(environment.reset(seed=1, options={"task": task}))


def paid(environment, *texts):
    """The team and local rewards of responses, one after the other."""
    infos = [go(environment, text).info for text in texts]
    return [(round(info["team_reward"], 6), round(info["local_reward"], 6)) for info in infos]


def test_plan_path_rewards_distance_goal_and_shortest_path():
    assert paid(start_on("petting_plan_path", GRID)[0], "print('RRDD')", "RR", "print('DD')", "DD") == [
        (0, 2.46),  # the whole value on a copy, 1 + 1 + 0.5, minus four moves
        (0.5, -0.02),
        (0, -0.02),
        (2.0, -0.02),  # half the distance, the goal, and a shortest path
    ]
    assert paid(start_on("petting_plan_path", GRID)[0], "print('U')", "RULLRRRDD")[1] == (
        2.0,
        -0.39,
    )  # three blocked moves and a detour
    away = start_on("petting_plan_path", "..P..G")[0]
    assert paid(away, "print('L')", "LL") == [(0, round(-1 / 3 - 0.01, 6)), (round(-2 / 3, 6), -0.02)]


def test_plan_path_penalizes_a_missed_goal():
    environment, _ = start_on("petting_plan_path", GRID, max_turns=1)
    assert paid(environment, "print('R')", "R") == [(0, 0.24), (-0.75, -0.01)]
    assert environment.state.done


def test_sokoban_rewards_boxes_distance_and_win():
    environment, _ = start_on("petting_sokoban", LEVEL)
    assert paid(environment, "print('RR')", "R", "print('R')", "R") == [
        (0, 11.18),  # two cells nearer, a box on the goal, and the win, minus two moves
        (0.1, -0.01),
        (0, -0.01),
        (11.1, -0.01),
    ]
    assert environment.state.done


def test_sokoban_box_that_leaves_its_goal_earns_nothing():
    two = "########\n#      #\n# @$.  #\n#      #\n# $  . #\n########"
    environment, _ = start_on("petting_sokoban", two)
    on, off = paid(environment, "print('U')", "R", "print('U')", "URRDL")[1::2]
    assert on[0] == 1.1
    assert off[0] == -1.1


def test_sokoban_deadlock_costs_the_role_that_causes_it():
    environment, _ = start_on("petting_sokoban", "######\n#    #\n#@$. #\n#  $.#\n#    #\n######")
    assert paid(environment, "print('DRU')", "DRU")[1] == (-0.1, -1.03)
    assert paid(environment, "print('D')", "D")[1][1] == -0.01  # once


def test_sudoku_rewards_right_cells_and_keeps_clues():
    environment, _ = start_on("petting_sudoku", PUZZLE)
    relabelled = ANSWER.translate(str.maketrans("12", "21"))  # the solution of another puzzle
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


def test_sudoku_board_shows_clues_and_filled_cells():
    environment, _ = start_on("petting_sudoku", PUZZLE)
    go(environment, "print(grid)")
    result = go(environment, PUZZLE.replace("12..", "123."))
    assert f"{PUZZLE}\n\n123." in result.observations["tool"]


def test_sudoku_hint_gives_the_shape_of_boxes_that_are_not_square():
    (task,) = make({"name": "sudoku", "side": 6, "size": 1})
    _, result = start_on("petting_sudoku", task)
    assert result.observations["tool"] == f"tool 1/4\n{task.question}\nA box has 2 rows and 3 columns."
    _, result = start_on("petting_sudoku", PUZZLE)
    assert result.observations["tool"] == f"tool 1/4\n{PUZZLE}"


def test_programs_read_the_grid_and_change_only_a_copy():
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
        environment, _ = start_on(name, question)
        game = environment.state.game
        result = go(environment, f"Let me think.\n```python\n{code}\n```")
        assert f"= {shown}" in result.observations["planner"]
        assert environment.state.game == game
        assert not result.info["success"]


@pytest.mark.parametrize(
    ("name", "question", "before", "contribution"),
    [
        ("petting_plan_path", GRID, ["print('RRDD')", "DUR"], "print('RDD')"),  # a shortest path is no longer possible
        ("petting_sokoban", LEVEL, ["print('RR')", "URRRDL"], "print('U')"),  # the box is stuck at the wall
        ("petting_sudoku", PUZZLE, [f"print({ANSWER!r})", "?"], f"print({PUZZLE.replace('12..', '123.')!r})"),
        ("petting_code", DOUBLE, ["def f(x): return 0", "assert f(3) == 6", "def f(x): return 0"], "assert f(2) == 4"),
    ],
)
@pytest.mark.parametrize("worthless", [None, "", "print(", "print('?')", "x" * 5_000])
def test_worse_contributions_earn_more_than_none(name, question, before, contribution, worthless):
    environment, _ = start_on(name, question)
    for text in before:
        go(environment, text)
    less, nothing = (go(environment.fork(), text).info["local_reward"] for text in (contribution, worthless))
    assert less < 0
    assert nothing < less


def test_math_ends_when_both_answers_are_equal():
    environment, _ = start_on("petting_math", "3 + 4 =")
    assert paid(environment, "print(3 + 4)", r"\boxed{8}") == [(0, 1.0), (0, 0)]
    assert not environment.state.done
    assert paid(environment, "print(9)", r"\boxed{7}") == [(0, -1.0), (1.0, 0)]
    assert not environment.state.done
    assert paid(environment, "print(8)", r"\boxed{8.0}") == [(0, 0), (-1.0, 0)]
    assert environment.state.done
    agreed, _ = start_on("petting_math", "3 + 4 =")
    result = play(agreed, lambda e: "print(14 / 2)" if e.role == "tool" else r"It is \boxed{7}.")[-1]
    assert result.info["success"]


def test_math_counts_only_the_latest_program():
    environment, _ = start_on("petting_math", "3 + 4 =")
    go(environment, "print(7)")
    go(environment, r"\boxed{6}")
    assert paid(environment, "nonsense(") == [(0, -1.1)]  # the previous answer does not count any more
    go(environment, r"\boxed{7}")
    assert not environment.state.done


def test_code_is_paid_by_golden_tests_and_ended_by_written_tests():
    environment, _ = start_on("petting_code", DOUBLE)
    assert paid(environment, "def f(x): return 2", "assert f(1) == 3") == [(0.5, 0), (0, 0)]
    assert paid(environment, "def f(x): return 6", "assert f(1) == 6")[0] == (0, 0)
    assert environment.state.done  # the tester's test passes
    wrong = environment.state.game
    assert wrong.share == 0.5
    right, _ = start_on("petting_code", DOUBLE)
    *_, last = play(right, lambda e: "def f(x): return x + x" if e.role == "coder" else "assert f(5) == 10")
    assert last.info["success"]


def test_tester_earns_its_mutation_score():
    earned = {}
    for tests in (
        "assert f(0) == 0",
        "assert f(2) == 4",
        "assert f(3) == 6",
        "assert f(3) == 5",
        "assert f(3) == 6\nassert f(3) == 5",
        "assert f(2) == 4\nassert f(3) == 50",
    ):
        environment, _ = start_on("petting_code", DOUBLE)
        go(environment, "def f(x): return 2 * x")
        earned[tests] = go(environment, tests).info["local_reward"]
    assert list(earned.values()) == [0.5, 0.5, 1.0, 0.0, 0.5, 0.25]  # mutants: x + 2 and x * 3


def test_mutants_that_pass_the_golden_tests_are_not_used():
    """In `x if x > 5 else 5`, `x >= 5` is right too; the limit 6 and the answer 6 are not."""
    tests = {"test_list": ["assert f(3) == 5", "assert f(6) == 6", "assert f(9) == 9"]}
    environment, _ = start_on(
        "petting_code", Task("five", "f(x): x, at least 5", "def f(x): return x if x > 5 else 5", tests)
    )
    go(environment, "def f(x): return max(x, 5)")
    assert go(environment, "assert f(6) == 6\nassert f(3) == 5").info["local_reward"] == 1.0


def test_written_tests_do_not_pass_without_a_program():
    head = 'def twice(x):\n    """Double."""\n'  # a complete function body
    tests = UnitTests("assert twice(1) == 2", "twice", "twice", f"{head}    return 2 * x", head)
    environment, _ = start_on("petting_code", Task("twice", head, "", {"tests": tests}))
    go(environment, None)
    result = go(environment, "assert not twice(1)")
    assert not result.done
    assert "= 1/1 pass" in result.observations["coder"]


def test_golden_outcomes_are_not_observed():
    seen = []
    for code in ("def f(x): return 2 * x", "def f(x): return 0"):
        environment, _ = start_on("petting_code", DOUBLE)
        seen.append(go(environment, code).observations["tester"].replace(code, ""))
    assert seen[0] == seen[1]


def test_board_adds_a_missing_function_name():
    task = Task("mbpp/1", "Write a function that doubles.", "", DOUBLE.metadata | {"code": DOUBLE.answer})
    _, result = start_on("petting_code", task)
    assert result.observations["coder"].endswith("doubles.\nName: f")


def test_reset_refuses_tests_that_need_a_complete_python():
    tests = UnitTests("for i in range(3):\n    assert f(i) == 2 * i", "f", "f", DOUBLE.answer)
    with pytest.raises(ReasonEnvsError, match="sandbox=native"):
        start_on("petting_code", Task("loop", "f(x): double x", "", {"tests": tests}))


def test_tests_of_standard_input_call_run():
    stdio = StdioTests((("1 2\n", "3\n"), ("4 5\n", "9\n")), "a, b = input().split()\nprint(int(a) + int(b))")
    environment, _ = start_on("petting_code", Task("sum", "Add two numbers.", "", {"tests": stdio}))
    go(environment, "a, b = input().split()\nprint(int(a) * int(b))")
    info = go(environment, "assert run('4 5') == '9'\nassert run('1 1') == '2'").info
    assert (info["local_reward"] > 0, info["success"]) == (True, False)
    assert "run('4 5') gave '20'" in environment.observe("coder")
    go(environment, "print(sum(int(part) for part in input().split()))")
    assert go(environment, "assert run('4 5') == '9\\n'").info["success"]
    assert environment.state.done


def test_hints_explain_standard_input():
    stdio = StdioTests((("1\n", "2\n"),), "print(int(input()) + 1)")
    environment, result = start_on("petting_code", Task("next", "Add one.", "", {"tests": stdio}))
    assert result.observations["coder"] == "coder 1/4\nAdd one.\nThe program reads standard input and prints."
    seen = go(environment, "print(int(input()) + 1)").observations["tester"]
    (example,) = [line.split(": ")[1] for line in seen.splitlines() if "assert run(" in line]
    assert go(environment, example).info["valid_action"]
    environment, result = start_on("petting_code", DOUBLE)
    assert "standard input" not in result.observations["coder"]
    assert "run(" not in go(environment, "def f(x): return 2 * x").observations["tester"]


def test_mutants_are_found_once_and_run_together():
    environment, _ = start_on("petting_code", DOUBLE)
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
    asyncio.run(judge.score(environment.state.game.tests, read_written_tests("assert f(3) == 6", "f")[0]))
    assert runs == ["in", "out", "in", "in", "out", "out"], "the right program, then both mutants at the same time"


def test_golden_tests_may_be_in_the_task_metadata():
    tests = UnitTests("assert f(1) == 2", "f", "f", "def f(x):\n    return x + 1")
    environment, _ = start_on("petting_code", Task("given", "Add one.", "", {"tests": tests}))
    assert go(environment, "def f(x): return x + 1").info["team_reward"] == 1.0
    with pytest.raises(ReasonEnvsError, match="no right program"):
        start_on("petting_code", Task("bare", "Add one.", "", {"tests": UnitTests("assert f(1) == 2", "f", "f")}))
    with pytest.raises(ReasonEnvsError, match="Task 'bare' has no tests, only a question and an answer"):
        start_on("petting_code", Task("bare", "Add one.", "def f(x): return x + 1"))
    with pytest.raises(ReasonEnvsError, match=r"Task 'bare' has no tests among its other fields \['level'\]"):
        start_on("petting_code", Task("bare", "Add one.", "def f(x): return x + 1", {"level": 3}))


@pytest.mark.slow
def test_golden_tests_may_have_the_format_of_humaneval():
    if detect().missing:
        pytest.skip(f"the native sandbox lacks {detect().missing} here")
    record = {
        "entry_point": "twice",
        "test": "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(2) == 4\n",
    }
    prompt = "def twice(x):\n"
    task = Task("twice", prompt, "    return 2 * x\n", record)
    environment, _ = start_on("petting_code", task, sandbox={"name": "native", "workers": 2})
    assert go(environment, "    return x + x\n").info["team_reward"] == 1.0
    info = go(environment, "assert twice(3) == 6").info
    environment.close()
    assert (info["success"], info["local_reward"] > 0) == (True, True)
    assert environment.state.done
