"""Generated tasks of the games: solvable, unique, disjoint and the same for equal seeds."""

from __future__ import annotations

import re
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks import make, split_of
from reason_envs.tasks.games import plan_path_rules as plan_path
from reason_envs.tasks.games import sokoban_rules as sokoban
from reason_envs.tasks.games import sudoku_rules as sudoku

FAMILIES = ["plan_path", "sokoban", "sudoku", "functions"]
STEPS = {"U": (-1, 0), "D": (1, 0), "L": (0, -1), "R": (0, 1)}


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), other=st.integers(0, 2**31), index=st.integers(0, 300))
def test_tasks_are_pure_functions_and_splits_disjoint_for_any_seeds(name, seed, other, index):
    train = make({"name": name, "seed": seed, "size": 301})
    again = make({"name": name, "seed": seed, "size": 999})
    again[index // 2]
    assert train[index] == again[index]
    assert split_of(train[index].question) == "train"
    assert split_of(make({"name": name, "seed": other, "size": 301}, "test")[index].question) == "test"


@pytest.mark.parametrize("name", FAMILIES)
def test_other_seeds_give_other_tasks(name):
    first, second = ({t.question for t in make({"name": name, "seed": seed, "size": 100})} for seed in (0, 1))
    assert len(first & second) < 20


def count_completions(text):
    """Count the solutions of a sudoku by exact cover, an algorithm that shares no code with the library."""
    rows = text.split("\n")
    side = len(rows)
    high, wide = {4: (2, 2), 6: (2, 3), 9: (3, 3)}[side]
    table = {}
    for r, c, d in ((r, c, d) for r in range(side) for c in range(side) for d in range(1, side + 1)):
        if rows[r][c] in (".", str(d)):
            table[r, c, d] = {("cell", r, c), ("row", r, d), ("col", c, d), ("box", r // high, c // wide, d)}
    columns = {}
    for choice, covered in table.items():
        for column in covered:
            columns.setdefault(column, set()).add(choice)
    wanted = 4 * side * side

    def search(columns):
        if not columns:
            return 1
        column = min(columns, key=lambda name: len(columns[name]))
        found = 0
        for choice in columns[column]:
            clashing = set().union(*(columns[name] for name in table[choice]))
            left = {name: choices - clashing for name, choices in columns.items() if name not in table[choice]}
            found += search(left)
        return found

    return search(columns) if len(columns) == wanted else 0


@pytest.mark.parametrize(("side", "count"), [(4, 980), (6, 100), (9, 20)])
def test_sudokus_have_exactly_one_solution(side, count):
    for task in make({"name": "sudoku", "side": side, "size": count}):
        assert count_completions(task.question) == 1
        solved = sudoku.fill(sudoku.read(task.question), sudoku.read_cells(task.answer, side))
        assert solved is not None
        assert solved.solved
        assert 0 < task.metadata["empty"] == task.question.count(".")


@pytest.mark.parametrize(("side", "empty"), [(4, 12), (6, 25), (9, 45)])
def test_sudokus_have_the_minimum_number_of_empty_cells(side, empty):
    tasks = make({"name": "sudoku", "side": side, "min_empty": empty, "max_empty": side * side, "size": 10})
    for task in tasks:
        assert task.question.count(".") == task.metadata["empty"] >= empty
        assert count_completions(task.question) == 1


def test_count_completions_counts_none_and_many():
    assert count_completions("....\n....\n....\n....") == 288
    assert count_completions("11..\n....\n....\n....") == 0


def search_level(text):
    """Return whether a level can be solved: breadth-first search over moves that shares no code with the library."""
    cells = {(r, c): symbol for r, line in enumerate(text.split("\n")) for c, symbol in enumerate(line)}
    goals = {cell for cell, symbol in cells.items() if symbol in ".+*"}
    start = (
        next(cell for cell, symbol in cells.items() if symbol in "@+"),
        frozenset(cell for cell, symbol in cells.items() if symbol in "$*"),
    )
    seen, queue = {start}, deque([start])
    while queue:
        player, boxes = queue.popleft()
        if boxes <= goals:
            return True
        for down, right in STEPS.values():
            to, beyond = ((player[0] + k * down, player[1] + k * right) for k in (1, 2))
            if cells.get(to, "#") == "#" or (to in boxes and (cells.get(beyond, "#") == "#" or beyond in boxes)):
                continue
            state = (to, boxes - {to} | {beyond} if to in boxes else boxes)
            if state not in seen:
                seen.add(state)
                queue.append(state)
    return False


@pytest.mark.parametrize(
    "options", [{"size": 200}, {"boxes": 2, "rows": 7, "columns": 8, "max_pushes": 12, "size": 60}]
)
def test_sokoban_answers_solve_their_levels(options):
    for task in make({"name": "sokoban", **options}):
        level = sokoban.read(task.question)
        assert search_level(task.question)
        assert not level.solved
        assert not sokoban.deadlocked(level)
        assert len(level.boxes) == options.get("boxes", 1) == len(level.goals)
        assert level.walk(task.answer).state.solved


def test_sokoban_levels_can_need_many_pushes():
    tasks = make({"name": "sokoban", "rows": 8, "columns": 8, "boxes": 2, "min_pushes": 20, "max_pushes": 20})
    for task in (tasks[i] for i in range(60)):
        level = sokoban.read(task.question)
        assert task.metadata["pushes"] == 20
        assert not level.solved
        assert level.walk(task.answer).state.solved


def test_search_level_finds_no_solution_of_a_deadlock():
    assert not search_level("#####\n#@ $#\n#. .#\n#####")


@pytest.mark.parametrize("options", [{}, {"rows": 10, "columns": 10, "min_distance": 6}, {"walls": 0.0}])
def test_plan_path_answers_are_shortest_paths(options):
    for task in make({"name": "plan_path", "size": 100, **options}):
        grid = plan_path.read(task.question)
        assert len(task.answer) == task.metadata["distance"] >= options.get("min_distance", 3)
        assert grid.walk(task.answer).state.solved
        assert len(plan_path.shortest_path(grid)) == task.metadata["distance"]


def test_functions_pass_their_tests():
    for task in make({"name": "functions", "size": 50}):
        space = {}
        exec(task.metadata["code"] + "\n".join(task.metadata["test_list"]), space)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "plan_path", "rows": 11}, "rows=11 must lie in [2, 10]."),
        ({"name": "plan_path", "walls": 0.9}, "walls=0.9 must lie in [0, 0.5]."),
        ({"name": "plan_path", "min_distance": 9}, "min_distance=9 must lie in [1, 8] for a grid of 5 x 5."),
        ({"name": "sokoban", "rows": 4}, "rows=4 must lie in [5, 20]."),
        ({"name": "sokoban", "boxes": 5}, "boxes=5 must lie in [1, 4] for a room of 16 cells."),
        ({"name": "sokoban", "rows": 20, "columns": 20, "boxes": 13}, "boxes=13 must lie in [1, 12]"),
        ({"name": "sokoban", "min_pushes": 7}, "min_pushes=7 must lie in [1, max_pushes=6]."),
        ({"name": "sudoku", "side": 5}, "side=5 must be one of 4, 6, 9."),
        ({"name": "sudoku", "min_empty": 9, "max_empty": 8}, "min_empty=9 must lie in [1, max_empty=8]."),
        ({"name": "sudoku", "max_empty": 17}, "max_empty=17 must be at most 16."),
        ({"name": "functions", "min_steps": 0}, "min_steps=0 must lie in [1, max_steps=3]."),
        ({"name": "sudoku", "size": 0}, "size=0 must be a whole number of at least 1."),
        ({"name": "boxoban", "path": "nowhere.txt"}, "nowhere.txt does not exist"),
    ],
    ids=str,
)
def test_bad_options_are_refused(spec, message):
    with pytest.raises(ReasonEnvsError, match=re.escape(message)):
        make(spec)


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "plan_path", "rows": 2, "columns": 2, "walls": 0.5, "min_distance": 2},
        {"name": "sokoban", "rows": 5, "columns": 5, "min_pushes": 50, "max_pushes": 60},
        {"name": "sudoku", "min_empty": 15, "max_empty": 16},
    ],
    ids=str,
)
def test_impossible_options_raise_and_do_not_search_endlessly(spec):
    with pytest.raises(ReasonEnvsError, match="take"):
        make(spec)[0]


def test_boxoban_reads_and_splits_level_files(tmp_path):
    rooms = [f"; {i}\n######\n#@{' ' * (i % 3)}$.#\n#{' ' * i}#\n" for i in range(20)]
    rooms = [room.replace("#" * 6, "#" * 30) for room in rooms]
    file = tmp_path / "levels.txt"
    file.write_text("\n".join(rooms))
    spec = {"name": "boxoban", "path": str(file), "holdout": 0.2}
    splits = {split: make(spec, split) for split in ("train", "test")}
    texts = {split: {task.question for task in tasks} for split, tasks in splits.items()}
    assert not texts["train"] & texts["test"]
    assert len(texts["train"] | texts["test"]) == 20
    official = {"train": str(file), "test": str(file)}
    assert len(make({"name": "boxoban", "path": official, "max_samples": 5}, "test")) == 5
    file.write_text("; 0\n#$.#\n")
    with pytest.raises(ReasonEnvsError, match=r"levels.txt, level 1: .*one player"):
        make({"name": "boxoban", "path": str(file)})


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_boxoban_reads_files_of_other_systems(tmp_path, start, end):
    file = tmp_path / "levels.txt"
    file.write_bytes(
        start + end.join([b"; 0", b"######", b"#@ $.#", b"######", b"", b"; 1", b"######", b"#@$ .#", b"######"])
    )
    tasks = make({"name": "boxoban", "path": {"train": str(file)}})
    assert [task.question.split("\n")[1] for task in tasks] == ["#@ $.#", "#@$ .#"]


def test_boxoban_names_files_that_are_not_text(tmp_path):
    (tmp_path / "levels.txt").write_bytes("; 0\n######\n#@ $.#\n######\n".encode("utf-16"))
    with pytest.raises(ReasonEnvsError, match=r"levels.txt cannot be used .UnicodeDecodeError: 'utf-8'"):
        make({"name": "boxoban", "path": str(tmp_path / "levels.txt")})


def test_boxoban_reads_published_levels(real_data):
    file = real_data / "boxoban" / "unfiltered_test_000.txt"
    train, test = (make({"name": "boxoban", "path": str(file)}, split) for split in ("train", "test"))
    assert len(train) == len(test) == 1000  # a file without splits is used whole
    level = sokoban.read(train[0].question)
    assert (level.rows, level.columns, len(level.boxes)) == (10, 10, 4)


def test_puzzles_of_reasoning_gym_with_the_same_name_are_parts_of_composite():
    (task,) = make({"name": "composite", "datasets": [{"name": "sudoku"}], "size": 1})
    assert "Sudoku" in task.question
