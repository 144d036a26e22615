"""Real problems: every reference passes its tests, and no empty function does."""

import asyncio
import gzip
import json
import os
from pathlib import Path

import pytest

from reason_envs.rewards.code.grade import CodeGrader
from reason_envs.rewards.code.tests import read_tests
from reason_envs.sandbox import make_sandbox
from reason_envs.sandbox.layers import detect

DATA = Path(os.environ.get("REASON_ENVS_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
FILES = {"humaneval": DATA / "humaneval" / "HumanEval.jsonl.gz", "mbpp": DATA / "mbpp" / "sanitized_test.jsonl"}
SIZES = {"humaneval": 164, "mbpp": 257}


def records(name):
    if not FILES[name].is_file():
        pytest.skip(f"no data at {FILES[name]}: set REASON_ENVS_DATA")
    data = FILES[name].read_bytes()
    text = gzip.decompress(data) if FILES[name].suffix == ".gz" else data
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def grader():
    if detect().missing:
        pytest.skip(f"the native sandbox lacks {detect().missing} here")
    sandbox = make_sandbox("native", workers=2)
    yield CodeGrader(sandbox)
    sandbox.close()


def wrong_numbers(grader, name, code_of, correct):
    """The numbers of the problems whose grade is not what it should be."""

    async def main():
        tests = [(code_of(record), read_tests(record)) for record in records(name)]
        assert len(tests) == SIZES[name]
        return await asyncio.gather(*(grader.grade(code, each) for code, each in tests))

    return {number: grade for number, grade in enumerate(asyncio.run(main())) if grade.correct != correct}


def test_every_humaneval_solution_passes(grader):
    assert wrong_numbers(grader, "humaneval", lambda record: record["canonical_solution"], True) == {}


def test_no_empty_humaneval_function_passes(grader):
    assert wrong_numbers(grader, "humaneval", lambda record: "    pass\n", False) == {}


def test_every_mbpp_reference_passes(grader):
    assert wrong_numbers(grader, "mbpp", lambda record: record["code"], True) == {}


def test_no_empty_mbpp_function_passes(grader):
    def empty(record):
        return f"def {read_tests(record).entry_point}(*args, **kwargs):\n    pass\n"

    assert wrong_numbers(grader, "mbpp", empty, False) == {}
