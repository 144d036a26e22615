"""The study of failures: its arms are valid commands, and table and pages state what its raw rows say."""

import re

import pytest

from agents.config.compose import compose_config
from benchmarks.real.what_makes_it_fail import ARMS, BASE, FOLDER, QUESTIONS, SAMPLES, read, table

MODEL = "policy.model=HuggingFaceTB/SmolLM2-135M-Instruct"
ROOT = FOLDER.parents[2]
PAGE = (ROOT / "docs/what_makes_it_fail.md").read_text("utf-8")


@pytest.fixture(scope="module")
def rows():
    return read(FOLDER / "rows")


@pytest.fixture(scope="module")
def lines(rows):
    return list(table(rows))


@pytest.mark.parametrize("arm", ARMS)
def test_arm_trains_equal_numbers_of_responses(arm):
    config = compose_config([MODEL, *BASE, *ARMS[arm][1]])
    assert config.algo.tasks_per_step * config.algo.samples_per_task == SAMPLES


def test_questions_cover_every_arm():
    assert {arm for _, arms in QUESTIONS.values() for arm in arms} == set(ARMS)


def test_table_and_results_are_those_of_the_rows(lines):
    assert "\n".join(lines) + "\n" == (FOLDER / "table.md").read_text("utf-8")
    assert "\n".join(lines) in (ROOT / "benchmarks/RESULTS.md").read_text("utf-8")


def test_page_states_numbers_of_the_table(lines):
    stated = re.findall(r"(\d+\.\d) %", PAGE)
    assert stated
    assert [number for number in stated if f"{number}%" not in "\n".join(lines)] == []


def test_page_quotes_warnings_of_the_runs(rows):
    quoted = re.findall(r"^> (.*)$", PAGE, re.MULTILINE)
    assert quoted
    assert set(quoted) <= {warning for row in rows.values() for warning in row.get("warnings", ())}
