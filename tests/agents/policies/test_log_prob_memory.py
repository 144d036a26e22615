"""Peak memory of forward and backward passes does not grow with vocabulary x length."""

import functools
import weakref

import pytest
import torch
from language_toys import make_decision, make_policy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AutoConfig, AutoModelForCausalLM

from agents.policies import log_probs
from reason_envs.llm.loading import load_tokenizer

MIB = 2**20
LENGTH = 32
"""Number of response tokens. Chunks are as much smaller as responses are shorter than 256 tokens."""


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of the storages that operations create in the context, until they are freed."""

    def __init__(self):
        super().__init__()
        self.live = {}
        self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage):
        key = storage._cdata
        if key not in self.live:
            self.live[key] = storage.nbytes()
            weakref.finalize(storage, self.live.pop, key, None)
            self.peak = max(self.peak, sum(self.live.values()))


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    for name in ("CHUNK_ELEMENTS", "CHUNK_ROWS"):
        monkeypatch.setattr(log_probs, name, getattr(log_probs, name) * LENGTH // 256)


@pytest.fixture(scope="module")
def model_of(tiny_model, tmp_path_factory):
    """Write a model with a given vocabulary; return its folder."""

    @functools.cache
    def make(vocabulary):
        folder = tmp_path_factory.mktemp(f"vocabulary_{vocabulary}")
        config = AutoConfig.from_pretrained(tiny_model, vocab_size=vocabulary)
        with torch.random.fork_rng():
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        load_tokenizer(tiny_model).save_pretrained(folder)
        return str(folder)

    return make


def peak(folder, rows, length=LENGTH, *, values=False):
    """Return the peak bytes of a forward and backward pass over ``rows x length`` tokens, without the weights."""
    policy = make_policy(folder)
    if values:
        policy.prepare_values()
    decisions = [make_decision(4, length, seed=i) for i in range(rows)]
    with PeakMemory() as memory:
        out = policy.evaluate(decisions)
        (out.log_probs.sum() + (out.values.square().sum() if values else 0.0)).backward()
    return memory.peak - sum(p.grad.nbytes for p in policy.parameters())


def test_token_log_probs_have_bounded_peak_memory(model_of):
    small, large = 16_384, 65_536
    short = peak(model_of(large), 8)
    long = peak(model_of(large), 24)
    narrow = peak(model_of(small), 12)
    assert logits(small, 12) == 24 * MIB
    assert logits(large, 24) == 192 * MIB
    assert narrow < 4 * chunk(small) == 32 * MIB
    assert max(short, long) < 4 * chunk(large) == 128 * MIB
    assert long - short < 0.05 * (logits(large, 24) - logits(large, 8))


def test_values_need_little_memory(model_of):
    folder, states = model_of(16_384), 12 * LENGTH * 32 * 4
    assert peak(folder, 12, values=True) - peak(folder, 12) < 4 * states


def test_peak_memory_grows_without_chunks(model_of, monkeypatch):
    monkeypatch.setattr(log_probs, "CHUNK_ELEMENTS", 1 << 40)
    assert peak(model_of(16_384), 12) > 3 * logits(16_384, 12)


def chunk(vocabulary):
    """Return the size of the logits of a chunk, in bytes."""
    return 4 * max(log_probs.CHUNK_ELEMENTS, log_probs.CHUNK_ROWS * vocabulary)


def logits(vocabulary, rows, length=LENGTH):
    """Return the size of the logits of all response tokens, in bytes."""
    return rows * length * vocabulary * 4
