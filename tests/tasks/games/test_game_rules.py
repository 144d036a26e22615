"""Rules of the grid games."""

from __future__ import annotations

from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.embedded_models.petting.sokoban_solver import solve
from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.games import plan_path_rules as plan_path
from reason_envs.tasks.games import sokoban_rules as sokoban
from reason_envs.tasks.games import sudoku_rules as sudoku
from reason_envs.tasks.games.moves import read_moves

GRID = "P.#\n..#\n#.G"
LEVEL = "#####\n#@$.#\n#   #\n#####"
PUZZLE = "1.34\n3412\n2143\n432."


@pytest.mark.parametrize(
    ("text", "moves"),
    [
        ("RRDD", "RRDD"),
        ("I go right first.\nr r d d", "RRDD"),
        (r"so \boxed{RRDD} it is", "RRDD"),
        (r"\boxed{right, right, down, down}", "RRDD"),
        ("['R', 'R', 'D', 'D']", "RRDD"),
        ("R->R->D->D", "RRDD"),
        ("RRDD\n\n", "RRDD"),
        ("", None),
        (r"\boxed{}", None),
        ("hello", None),
        ("RRDX", None),
        ("RRDD please", None),
        ("R" * 101, None),
        ("...", None),
        ("\x00", None),
    ],
)
def test_read_moves_accepts_many_spellings_and_no_garbage(text, moves):
    assert read_moves(text, 100) == moves


@given(st.text())
def test_read_moves_and_read_cells_never_raise(text):
    read_moves(text, 10)
    sudoku.read_cells(text, 4)


def test_plan_path_walk_counts_made_and_blocked_moves():
    grid = plan_path.read(GRID)
    assert grid.draw() == GRID
    assert plan_path.shortest_path(grid) == "DRDR"
    done = grid.walk("UDRDRLLL")
    assert (done.state.solved, done.moves, done.blocked) == (True, 5, 1)
    assert done.state.draw() == "..#\n..#\n#.*"
    assert grid.walk("RR").state.player == (0, 1)
    assert not grid.solved


@pytest.mark.parametrize("text", ["", "P..", "PPG", "P#G", "P.x\n..G", "PG\nG."])
def test_plan_path_refuses_invalid_and_unsolvable_grids(text):
    with pytest.raises(ReasonEnvsError):
        plan_path.read(text)


def test_sokoban_boxes_are_pushed_and_never_pulled():
    level = sokoban.read(LEVEL)
    assert level.draw() == LEVEL
    assert sokoban.distance(level) == 1
    done = level.walk("LRR")
    assert (done.state.solved, done.moves, done.blocked) == (True, 2, 1)
    assert done.state.draw() == "#####\n# @*#\n#   #\n#####"
    assert solve(level) == "R"
    assert sokoban.read("#####\n#@$$#\n#. .#\n#####").step("R") is None
    assert level.step("U") is None


def test_sokoban_distance_matches_the_maximum_number_of_boxes_quickly():
    rows = ("@" + 11 * " ", "$" * 12, 12 * " ", "." * 12)
    level = sokoban.read("\n".join(["#" * 14, *(f"#{row}#" for row in rows), "#" * 14]))
    started = monotonic()
    assert sokoban.distance(level) == 24
    assert monotonic() - started < 2


@pytest.mark.parametrize(
    ("text", "dead"),
    [
        (LEVEL, False),
        ("#####\n#@ $#\n#. .#\n#####", True),  # a corner
        ("######\n#@ $ #\n#    #\n#  . #\n######", True),  # along a wall without a goal
        ("######\n#@$$ #\n# .. #\n######", True),  # a square of boxes and wall
        ("######\n#@*  #\n# $. #\n#    #\n######", False),
    ],
)
def test_sokoban_detects_deadlocks(text, dead):
    level = sokoban.read(text)
    assert sokoban.deadlocked(level) is dead
    assert (solve(level) is None) is dead


@pytest.mark.parametrize("text", ["", "#$ .#", "#@@.#", "#@$$.#", "#@x.#", "#@" + 13 * "$ " + 13 * "." + "#"])
def test_sokoban_refuses_invalid_levels(text):
    with pytest.raises(ReasonEnvsError):
        sokoban.read(text)


def test_sudoku_clues_cannot_change():
    puzzle = sudoku.read(PUZZLE)
    assert sudoku.draw(4, puzzle.cells) == PUZZLE
    (solution,) = sudoku.solutions(4, puzzle.cells, 5)
    filled = sudoku.fill(puzzle, solution)
    assert filled is not None
    assert filled.solved
    relabelled = tuple({1: 2, 2: 1}.get(cell, cell) for cell in solution)
    assert not sudoku.conflicts(4, relabelled)  # a complete grid without conflicts, but of another puzzle
    assert sudoku.fill(puzzle, relabelled) is None
    assert sudoku.fill(puzzle, (0,) * 16) is None


def test_sudoku_conflicts_are_counted():
    assert sudoku.conflicts(4, sudoku.read(PUZZLE).cells) == 0
    assert sudoku.conflicts(4, (1, 1, *(0,) * 14)) == 2
    assert sudoku.conflicts(4, (1, 0, 0, 0, 0, 1, *(0,) * 10)) == 2


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (PUZZLE, True),
        ("The answer:\n```\n1 0 3 4\n3 4 1 2\n2 1 4 3\n4 3 2 0\n```", True),
        ("[[1,0,3,4],[3,4,1,2],[2,1,4,3],[4,3,2,0]]", True),
        ("1_34|3412|2143|432_", True),
        ("1.34/3412/2143/432.", True),
        (r"\boxed{1.34\\3412\\2143\\432.}", True),
        ("12\n34", False),
        ("1.34\n3412\n2143", False),
        ("1.34\n3412\n2143\n4325", False),
        ("1.34\n3412\n2143\nfour", False),
        ("", False),
    ],
)
def test_read_cells_accepts_many_spellings_and_no_garbage(text, found):
    cells = sudoku.read_cells(text, 4)
    assert (cells == sudoku.read(PUZZLE).cells) is found
    assert (cells is None) is not found


@pytest.mark.parametrize(
    "text", ["", "1234", "....\n....\n....\n....", "11..\n....\n....\n....", "abcd\n1234\n1234\n1234"]
)
def test_sudoku_refuses_puzzles_without_exactly_one_solution(text):
    with pytest.raises(ReasonEnvsError):
        sudoku.read(text)
