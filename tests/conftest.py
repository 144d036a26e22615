"""Shared fixtures."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers share the processors; set before torch is imported


SLOW = ("integration", "faults", "test_docs.py", "test_matrix.py")
"""Folders and files whose tests make whole runs, start other processes or try thousands of hostile inputs."""


def pytest_collection_modifyitems(items):
    """Mark the tests of ``SLOW``."""
    for item in items:
        if item.path.relative_to(Path(__file__).parent).parts[0] in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What collection creates is kept until the end, so that looking for garbage in it is wasted time, also later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True, scope="module")
def _own_registrations():
    """What a test module registers is gone after it."""
    import gymnasium

    from reason_envs import registration

    registries = (registration.ENVIRONMENTS.parts, gymnasium.registry)
    before = [dict(registry) for registry in registries]
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


@pytest.fixture(autouse=True, scope="module")
def _nothing_left_open():
    """What a test module forgets to close is its own error, not that of the test during which it is collected."""
    yield
    gc.collect()
    gc.freeze()  # what is left belongs to imported modules and to fixtures of the session


@pytest.fixture(autouse=True, scope="session")
def _curves_drawn_once():
    """Curves are drawn when other panels are filled than in earlier runs. Drawing takes half of a short run."""
    from agents.tracking import curves
    from agents.tracking.metrics_file import SHOWN

    pictures, draw = {}, curves.plot_curves

    def plot_curves(rows, path, title=""):
        recorded = {name for row in rows for name, value in row.items() if value is not None}
        kind = frozenset(panel for panel, metrics in SHOWN["panels"] if recorded & set(metrics))
        kind |= {name for name in recorded if name.startswith(("eval/accuracy", "eval/greedy"))}
        if kind in pictures:
            path.write_bytes(pictures[kind])
        else:
            draw(rows, path, title)
            pictures[kind] = path.read_bytes()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "plot_curves", plot_curves)
        yield


@pytest.fixture(autouse=True, scope="session")
def _logs_of_stable_baselines(tmp_path_factory):
    """Stable-Baselines3 creates a folder of logs for each training, in /tmp unless it is named."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SB3_LOGDIR", str(tmp_path_factory.mktemp("sb3")))
        yield


@pytest.fixture(scope="session")
def real_data():
    """Folder of public data sets, named by an environment variable; tests that need it are skipped without it."""
    if "REASON_ENVS_DATA" not in os.environ:
        pytest.skip("set REASON_ENVS_DATA to a folder of public data sets to run this test")
    return Path(os.environ["REASON_ENVS_DATA"])


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Folder of a random Qwen3-shaped model that runs in milliseconds, with the embedded model's tokenizer."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from reason_envs.llm.loading import load_tokenizer

    folder = tmp_path_factory.mktemp("tiny_model")
    tokenizer = load_tokenizer("embedded")
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
