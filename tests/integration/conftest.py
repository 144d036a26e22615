"""One vLLM engine for all tests, because its start takes most of their time."""

import psutil
import pytest
from vllm_toys import RANK, processes

from reason_envs.llm import make_engine


@pytest.fixture(scope="session")
def vllm_engine():
    """Build an engine in float32 with adapters. Its processes end when it is closed."""
    others = processes()
    engine = make_engine(
        "vllm",
        device="cpu",
        enforce_eager=True,
        kv_cache_gib=0.25,
        max_model_len=512,
        max_sequences=96,
        max_lora_rank=RANK,
        max_loras=2,
    )
    started = processes() - others
    assert started
    yield engine
    engine.close()
    assert psutil.wait_procs(started, timeout=60)[1] == []
