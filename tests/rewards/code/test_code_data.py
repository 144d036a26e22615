"""Public benchmarks: every reference solution passes its tests, and no empty function does."""

import asyncio

import pytest

from reason_envs.rewards.code.grade import CodeGrader
from reason_envs.rewards.code.tests import read_tests
from reason_envs.sandbox import make_sandbox
from reason_envs.sandbox.layers import detect
from reason_envs.tasks.files.records import read_records

FILES = {"humaneval": "humaneval/HumanEval.jsonl.gz", "mbpp": "mbpp/sanitized_test.jsonl"}
SIZES = {"humaneval": 164, "mbpp": 257}


@pytest.fixture(scope="module")
def records(real_data):
    return {name: [record for _, record in read_records(real_data / file)] for name, file in FILES.items()}


@pytest.fixture(scope="module")
def grader():
    if detect().missing:
        pytest.skip(f"the native sandbox lacks {detect().missing} here")
    sandbox = make_sandbox("native", workers=2)
    yield CodeGrader(sandbox)
    sandbox.close()


def wrong_numbers(grader, records, name, code_of, correct):
    """Return the problems whose grade is not the expected one, by number."""

    async def main():
        tests = [(code_of(record), read_tests(record)) for record in records[name]]
        assert len(tests) == SIZES[name]
        return await asyncio.gather(*(grader.grade(code, each) for code, each in tests))

    return {number: grade for number, grade in enumerate(asyncio.run(main())) if grade.correct != correct}


def test_every_humaneval_solution_passes(grader, records):
    assert wrong_numbers(grader, records, "humaneval", lambda record: record["canonical_solution"], True) == {}


def test_no_empty_humaneval_function_passes(grader, records):
    assert wrong_numbers(grader, records, "humaneval", lambda record: "    pass\n", False) == {}


def test_every_mbpp_reference_passes(grader, records):
    assert wrong_numbers(grader, records, "mbpp", lambda record: record["code"], True) == {}


def test_no_empty_mbpp_function_passes(grader, records):
    def empty(record):
        return f"def {read_tests(record).entry_point}(*args, **kwargs):\n    pass\n"

    assert wrong_numbers(grader, records, "mbpp", empty, False) == {}
