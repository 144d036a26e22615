"""The baselines on GSM8K: votes are counted as they should be, and the table says what the raw rows say."""

import numpy as np
import pytest

from benchmarks.real.gsm8k_solutions import FOLDER, ROWS, SAMPLES, majority, points, table, voted
from benchmarks.real.raw_rows import read

RIGHT, WRONG, OTHER, SILENT = ["4", True, 10], ["5", False, 10], ["6", False, 10], [None, False, 10]


@pytest.mark.parametrize(
    ("solutions", "expected"),
    [
        ([RIGHT, WRONG, WRONG], False),
        ([RIGHT, WRONG, RIGHT], True),
        ([SILENT, SILENT, RIGHT], True),
        ([WRONG, RIGHT], False),
        ([["4.0", True, 9], WRONG, RIGHT], True),
        ([SILENT], False),
    ],
    ids=["minority", "majority", "silence has no vote", "the first wins a tie", "equal numbers", "nothing"],
)
def test_majority_is_the_most_frequent_answer(solutions, expected):
    assert majority(solutions) is expected


def test_votes_of_one_and_of_all_solutions_are_exact():
    row = {"id": "a", "solutions": [RIGHT, WRONG, RIGHT, OTHER]}
    assert voted(row, 4) == (1.0, 1.0)
    one, any_of_one = voted(row, 1)
    assert one == any_of_one == pytest.approx(0.5, abs=0.06)
    two, any_of_two = voted(row, 2)
    assert any_of_two == pytest.approx(5 / 6, abs=0.05)
    assert two == pytest.approx(1 / 6 + 4 / 6 / 2, abs=0.06)  # both are right, or a tie is won


def test_table_and_results_are_those_of_the_rows():
    rows = read(ROWS)
    assert len({row["id"] for row in rows}) == len(rows) >= 24
    assert {len(row["solutions"]) for row in rows} == {SAMPLES}
    found = list(points(rows))
    lines = "\n".join(table(found))
    assert lines + "\n" == (FOLDER / "table.md").read_text("utf-8")
    assert lines in (FOLDER.parents[1] / "RESULTS.md").read_text("utf-8")
    single = next(each for each in found if each.method == "majority vote")
    share = np.mean([[solution[1] for solution in row["solutions"]] for row in rows])
    assert single.right.mean() == pytest.approx(share, abs=0.01)
