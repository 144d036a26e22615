from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks import Task, TaskSet, make
from reason_envs.tasks.mixture import MixtureTaskSet, apportion, interleave
from reason_envs.tasks.task_list import ListTaskSet


def numbered(name: str, count: int) -> TaskSet:
    return ListTaskSet(name, "train", [Task(f"{name}/{i}", f"{name} {i}", str(i)) for i in range(count)])


def test_mixture_has_exact_ratios_and_names_sources() -> None:
    parts = {"chain_sum": 0.4, "gcd": 0.3, "again": {"ratio": 0.3, "name": "chain_sum", "min_terms": 6}}
    tasks = make({"name": "mixture", "parts": parts, "size": 200})
    assert Counter(task.metadata["source"] for task in tasks) == {"chain_sum": 80, "gcd": 60, "again": 60}
    assert all(t.metadata["num_terms"] == 6 for t in tasks if t.metadata["source"] == "again")
    assert len({task.id for task in tasks}) == 200
    assert tasks[17] == make({"name": "mixture", "parts": parts, "size": 200})[17]


def test_mixture_splits_are_disjoint() -> None:
    spec = {"name": "mixture", "parts": {"chain_sum": 1, "gcd": 1}, "size": 100}
    assert not {task.question for task in make(spec)} & {task.question for task in make(spec, "test")}


def test_mixture_default_size_repeats_no_task() -> None:
    parts = {"a": {"ratio": 3, "name": "chain_sum", "size": 30}, "b": {"ratio": 1, "name": "gcd", "size": 40}}
    tasks = make({"name": "mixture", "parts": parts})
    assert len(tasks) == 40
    assert tasks.left_out == {
        "of b to keep the ratios, because a has 30 (size=N repeats small parts)": 30,
    }
    assert not make({"name": "mixture", "parts": parts, "size": 160}).left_out
    assert len(make({"name": "mixture", "parts": parts, "max_samples": 8})) == 8


def test_mixture_repeats_parts_in_another_order() -> None:
    tasks = MixtureTaskSet("train", {"a": numbered("a", 10)}, {"a": 1.0}, size=30, seed=0)
    epochs = [[task.question for task in list(tasks)[i : i + 10]] for i in (0, 10, 20)]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert len({task.id for task in tasks}) == 30


def test_apportion_known_values() -> None:
    assert apportion([0.4, 0.3, 0.3], 10) == [4, 3, 3]
    assert apportion([0.1, 0.2, 0.7], 10) == [1, 2, 7]
    assert apportion([0.5, 0.5], 3) == [2, 1]
    assert apportion([1 / 3, 1 / 3, 1 / 3], 9) == [3, 3, 3]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 400))
def test_apportion_and_interleave_spread_parts_evenly(weights: list[int], size: int) -> None:
    exact = [Fraction(weight * size, sum(weights)) for weight in weights]
    counts = apportion([weight / sum(weights) for weight in weights], size)
    assert sum(counts) == size
    assert all(abs(count - value) < 1 for count, value in zip(counts, exact, strict=True))
    assert all(count == value for count, value in zip(counts, exact, strict=True) if value.denominator == 1)
    part, turn = interleave(counts)
    for number, count in enumerate(counts):
        assert turn[part == number].tolist() == list(range(count))
        running = np.cumsum(part == number)
        assert np.abs(running - np.arange(1, size + 1) * count / size).max() <= len(weights)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "must map names to ratios"),
        (["chain_sum"], "must map names to ratios"),
        ({"chain_sum": 0}, "parts.chain_sum=0 needs a ratio above 0"),
        ({"chain_sum": {"min_terms": 3}}, "needs a ratio above 0"),
        ({"chain_sums": 1}, "Did you mean 'chain_sum'"),
        ({"chain_sum": {"ratio": 1, "terms": 3}}, "terms=3 is not an option of task family 'chain_sum'"),
    ],
)
def test_mixture_refuses_bad_parts(parts: object, message: str) -> None:
    with pytest.raises(ReasonEnvsError, match=message):
        make({"name": "mixture", "parts": parts})
