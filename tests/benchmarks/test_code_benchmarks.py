"""The page states the accuracy of the raw rows of programs."""

import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FILES = sorted((BENCHMARKS / "real/code_benchmarks").glob("*.json"))


def test_there_are_raw_rows():
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_page_states_the_accuracy_of_the_raw_rows(file):
    right = json.loads(file.read_text("utf-8"))
    stated = f"{sum(right.values()) / len(right):.1%} of the {len(right)} programs".replace("%", " %")
    assert stated in (BENCHMARKS / "RESULTS.md").read_text("utf-8")
