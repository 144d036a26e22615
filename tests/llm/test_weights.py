"""Transfer of weights: strict copying, a digest that depends on every bit, and memory that loading has freed."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from agents.train import ALLOCATOR
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import weights
from reason_envs.llm.weights import copy_weights, digest


def model():
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(6.0).view(2, 3))
        layer.bias.zero_()
    return layer


def test_copy_weights_casts_to_the_dtype_of_the_model():
    target = model().to(torch.bfloat16)
    copy_weights(target, {"weight": torch.full((2, 3), 0.1), "bias": torch.ones(2)})
    assert target.weight.dtype == torch.bfloat16
    assert torch.equal(target.weight, torch.full((2, 3), 0.1).to(torch.bfloat16))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"weight": torch.ones(2, 3)}, r"1 missing \(bias\), 0 unknown \(none\)"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(2), "x": torch.ones(1)}, r"1 unknown \(x\)"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(3)}, r"bias has shape \(3,\); .* requires \(2,\)"),
    ],
)
def test_copy_weights_refuses_weights_that_do_not_fit(source, message):
    target = model()
    with pytest.raises(ReasonEnvsError, match=message):
        copy_weights(target, source)
    assert torch.equal(target.weight, model().weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_digest_is_equal_for_equal_weights(dtype):
    tensor = torch.arange(10).to(dtype)
    assert digest({"a": tensor, "b": tensor[:2]}) == digest({"b": tensor.clone()[:2], "a": tensor.clone()})


@settings(max_examples=40)
@given(st.integers(0, 49), st.integers(0, 31))
def test_digest_changes_with_one_bit(place, bit):
    tensor = torch.linspace(-1, 1, 50)
    changed = tensor.clone()
    changed.view(torch.int32)[place] ^= torch.tensor(1 << bit if bit < 31 else -(1 << 31), dtype=torch.int32)
    assert digest({"w": tensor}) != digest({"w": changed})


def test_digest_depends_on_names_shapes_dtypes_and_order():
    tensor = torch.arange(6.0)
    digests = {
        digest(w)
        for w in (
            {"w": tensor},
            {"v": tensor},
            {"w": tensor.view(2, 3)},
            {"w": tensor.view(torch.int32)},
            {"w": tensor.flip(0)},
            {"w": tensor[[1, 0, 2, 3, 4, 5]]},
        )
    }
    assert len(digests) == 6


def test_digest_of_a_view_equals_that_of_its_copy():
    tensor = torch.arange(6.0).view(2, 3)
    assert digest({"w": tensor.t()}) == digest({"w": tensor.t().contiguous()}) != digest({"w": tensor.view(3, 2)})


def test_digest_covers_all_chunks_of_large_tensors(monkeypatch):
    monkeypatch.setattr(weights, "_CHUNK", 4)
    tensor = torch.arange(10.0)
    assert digest({"w": tensor}) == digest({"w": tensor.clone()})
    assert digest({"w": tensor}) != digest({"w": tensor[[4, 5, 6, 7, 0, 1, 2, 3, 8, 9]]})


FREES = """
from pathlib import Path

from reason_envs.llm.weights import return_free_memory

resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
blocks = [b"x" * 2**20 for _ in range(300)]
last = b"x" * 2**20
del blocks
before = resident()
return_free_memory()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_free_memory_goes_back_to_the_system_while_the_allocator_keeps_it():
    environment = {**os.environ, **ALLOCATOR}
    done = subprocess.run([sys.executable, "-c", FREES], env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) > 250
