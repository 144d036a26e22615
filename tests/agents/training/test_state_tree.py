"""Nested state is restored exactly from tensors and JSON."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.training.state_tree import flatten, unflatten
from reason_envs.errors import ReasonEnvsError

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
keys = st.integers() | st.sampled_from(["__tuple__", "__tensor__", "a/b", ""]) | st.text(max_size=3)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)


def through_json(state):
    tensors, structure = flatten(state)
    return unflatten(tensors, json.loads(json.dumps(structure, allow_nan=False)))


def kinds(value):
    """Return the value with the type of every part, since 1 == 1.0 == True."""
    if isinstance(value, dict):
        return {(type(k), k): kinds(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return (type(value), [kinds(v) for v in value])
    return (type(value), math.copysign(1, value) if isinstance(value, float) else 0, value)


@given(trees)
def test_unflatten_restores_values_and_types(state):
    assert kinds(through_json(state)) == kinds(state)


def test_unflatten_restores_nan_and_random_generators():
    assert math.isnan(through_json({"best": math.nan})["best"])
    numpy_generator, torch_generator = np.random.default_rng(3), torch.Generator().manual_seed(3)
    numpy_generator.random(5)
    torch.rand(5, generator=torch_generator)
    state = through_json({"numpy": numpy_generator.bit_generator.state, "torch": torch_generator.get_state()})
    restored, restored_torch = np.random.default_rng(), torch.Generator()
    restored.bit_generator.state = state["numpy"]
    restored_torch.set_state(state["torch"])
    assert restored.random() == numpy_generator.random()
    assert torch.equal(torch.rand(4, generator=restored_torch), torch.rand(4, generator=torch_generator))


def test_flatten_names_tensors_by_their_path():
    tensors, _ = flatten({"state": {0: {"exp_avg": torch.ones(2)}}, "list": [torch.zeros(1)]})
    assert sorted(tensors) == ["list/0", "state/0/exp_avg"]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": {"b": {1, 2}}}, "a set at 'a/b'"),
        ({"a": {(1, 2): 0}}, r"key \(1, 2\) at 'a'"),
        ({"a/b": torch.ones(1), "a": {"b": torch.ones(1)}}, "path 'a/b'"),
    ],
)
def test_flatten_names_an_invalid_value(state, message):
    with pytest.raises(ReasonEnvsError, match=message):
        flatten(state)
