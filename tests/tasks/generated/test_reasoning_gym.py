import json
import random
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks import make, split_of
from reason_envs.tasks.generated.reasoning_gym import _HASH_ORDERED, FAMILY_NAMES, option_defaults
from reason_envs.tasks.registry import TASKS

EXPENSIVE = {"acre", "countdown", "futoshiki", "intermediate_integration", "knight_swap", "puzzle24", "sokoban"}
"""Families that are slow to build or to draw from; the others take about ten seconds together."""
QUICK = sorted(FAMILY_NAMES - EXPENSIVE - {"composite", "arc_agi", "gsm_symbolic"} - TASKS.parts.keys())


def test_chain_sum_defaults_fit_the_embedded_model() -> None:
    tasks = make("chain_sum")
    assert (len(tasks), len(make("chain_sum", "test"))) == (10_000, 2_048)
    for index in range(50):
        task = tasks[index]
        assert 3 <= task.metadata["num_terms"] <= 6
        assert 1 <= task.metadata["num_digits"] <= 2
        assert eval(task.metadata["expression"]) == int(task.answer)


def test_options_are_passed_to_the_generator() -> None:
    tasks = make({"name": "chain_sum", "min_terms": 2, "max_terms": 2, "min_digits": 5, "max_digits": 5, "size": 7})
    assert len(tasks) == 7
    assert all(task.metadata["num_terms"] == 2 and task.metadata["num_digits"] == 5 for task in tasks)


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(0, 2**31), st.integers(0, 300))
def test_tasks_are_pure_functions_and_splits_disjoint_for_any_seeds(seed: int, other: int, index: int) -> None:
    train = make({"name": "chain_sum", "seed": seed, "size": 301})
    test = make({"name": "chain_sum", "seed": other, "size": 5_000}, "test")
    again = make({"name": "chain_sum", "seed": seed, "size": 9_999})
    again[index // 2]
    assert train[index] == again[index]
    assert split_of(train[index].question) == "train"
    assert split_of(test[index].question) == "test"


def test_other_seeds_give_other_tasks() -> None:
    first, second = (make({"name": "chain_sum", "seed": seed, "size": 200}) for seed in (0, 1))
    shared = {task.question for task in first} & {task.question for task in second}
    assert len(shared) < 20


@pytest.mark.parametrize("name", QUICK)
def test_families_are_pure_and_keep_the_global_random_state(name: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Tasks of ", category=UserWarning)
        first, second = (make({"name": name, "size": 3}) for _ in range(2))
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    task = first[1]
    assert task.question
    assert split_of(task.question) == "train"
    assert task.metadata["source_dataset"]
    assert random.getstate() == state
    assert repr(np.random.get_state()) == repr(numpy_state)  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert (task.question, task.answer) == (second[1].question, second[1].answer)


@pytest.mark.parametrize("name", ["codeio", "list_functions", "pool_matrix"])
def test_families_with_global_random_numbers_are_pure(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some programs of codeio write files
    tasks = make({"name": name, "size": 60})
    random.seed(1)
    state = random.getstate()
    first = [(task.question, task.answer) for task in tasks]
    assert random.getstate() == state
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert [(task.question, task.answer) for task in tasks] == first


def test_gsm_symbolic_has_worked_solutions() -> None:
    task = make({"name": "gsm_symbolic", "size": 5})[4]
    assert float(task.answer) == float(task.metadata["answer_value"])
    assert task.metadata["answer_cot"]


def test_composite_accepts_mappings() -> None:
    parts = [{"name": "chain_sum", "config": {"min_terms": 2}}, {"name": "gcd", "weight": 3}]
    tasks = make({"name": "composite", "datasets": parts, "size": 40})
    assert {task.metadata["source_dataset"] for task in tasks} == {"chain_sum", "gcd"}


def _questions_in_new_process(name: str, hash_seed: str) -> list[str]:
    code = (
        "import json, sys; from reason_envs.tasks import make; "
        "print(json.dumps([t.question for t in make({'name': sys.argv[1], 'size': 5})]))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, name]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": hash_seed})
    return json.loads(result.stdout)


def test_tasks_are_the_same_in_every_process() -> None:
    assert _questions_in_new_process("chain_sum", "1") == _questions_in_new_process("chain_sum", "2")


@pytest.mark.skipif(not sys.flags.hash_randomization, reason="PYTHONHASHSEED is set")
def test_families_that_depend_on_string_hashes_warn() -> None:
    assert FAMILY_NAMES >= _HASH_ORDERED
    with pytest.warns(UserWarning, match="PYTHONHASHSEED"):
        make({"name": "ransom_note", "size": 2})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_term": 3}, "Did you mean 'min_terms'"),
        ({"min_terms": 9}, "refuses the options .*max_terms must be >= min_terms"),
        ({"size": 0}, "size=0 must be a whole number of at least 1"),
        ({"max_samples": -1}, "max_samples=-1 must be a whole number"),
        ({"seed": "zero"}, "seed='zero' must be a whole number"),
        ({"min_terms": "three"}, "refuses the options"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ReasonEnvsError, match=message):
        make({"name": "chain_sum", **options})


def test_too_few_different_tasks_raise() -> None:
    lone = {"name": "count_primes", "min_n": 1, "max_n": 1}
    splits = {split: make(lone, split) for split in ("train", "test")}
    with pytest.raises(ReasonEnvsError, match="too few different tasks"):
        [splits[split][0] for split in ("train", "test")]


def test_index_outside_the_set_raises() -> None:
    tasks = make({"name": "chain_sum", "size": 10, "max_samples": 4})
    assert len(tasks) == len(list(tasks)) == 4
    for index in (-1, 4):
        with pytest.raises(IndexError, match=r"outside 0\.\.3"):
            tasks[index]


def test_option_defaults_have_every_option_of_the_generator() -> None:
    defaults = option_defaults("chain_sum")
    assert defaults == {
        "min_terms": 3, "max_terms": 6, "min_digits": 1, "max_digits": 2, "allow_negation": False,
        "size": None, "seed": 0, "max_samples": None,
    }  # fmt: skip
