"""The engine interface: defaults, capabilities and views of adapters."""

import asyncio
from pathlib import Path

import pytest

from reason_envs.errors import OptionError
from reason_envs.llm.adapter_views import AdapterView
from reason_envs.llm.chat import fits
from reason_envs.llm.engine import BASE_MODEL, Capability, Engine, Generation, GenerationRequest, TrainableEngine

CHAT = [{"role": "user", "content": "Hi."}]


class Minimal(Engine):
    """An engine that defines only ``generate``."""

    async def generate(self, request):
        return [Generation("ok", [1], None, "stop", 0, []) for _ in range(request.n)]


class Adapters(TrainableEngine):
    """Records the adapter of every call."""

    capabilities = frozenset({Capability.LOG_PROBS, Capability.TRAINABLE, Capability.ADAPTERS})
    context_length, model_name, dtype = 64, "tiny", "float32"

    def __init__(self):
        self.calls, self.is_closed = [], False

    async def generate(self, request):
        self.calls.append(("generate", request.adapter))
        return []

    async def score(self, token_ids, prompt_length, temperature=1.0, adapter=None):
        self.calls.append(("score", temperature, adapter))
        return []

    def load_weights(self, source, version, adapter=None):
        self.calls.append(("load", source, version, adapter))

    def weights_digest(self, adapter=None):
        return f"digest of {adapter}"

    def close(self):
        self.is_closed = True


def test_engine_members_have_defaults():
    engine = Minimal()
    assert (engine.capabilities, engine.tokenizer, engine.context_length) == (frozenset(), None, None)
    assert engine.can_answer(3)
    assert engine.weights_digest() is None
    assert fits(engine, CHAT * 1000, 10**9)
    engine.close()
    engine.close()


@pytest.mark.parametrize("base", [Engine, TrainableEngine])
def test_engine_without_its_methods_cannot_be_built(base):
    with pytest.raises(TypeError, match="abstract method"):
        base()


def test_capability_equals_its_string():
    assert "trainable" in Adapters.capabilities
    assert frozenset({"log_probs"}) == {Capability.LOG_PROBS}
    assert Capability.ADAPTERS in frozenset({"adapters"})


def test_request_names_the_field_that_is_wrong():
    with pytest.raises(OptionError, match=r"^n=0 must be at least 1\.$"):
        GenerationRequest(CHAT, 0, n=0)


def test_adapter_view_sends_every_call_to_its_adapter():
    engine = Adapters()
    view = AdapterView(engine, "coder")
    asyncio.run(view.generate(GenerationRequest(CHAT, 0)))
    asyncio.run(view.score([1, 2], 1, 0.7))
    view.load_weights(Path("folder"), 4)
    assert engine.calls == [("generate", "coder"), ("score", 0.7, "coder"), ("load", Path("folder"), 4, "coder")]
    assert view.weights_digest() == "digest of coder"
    assert (view.context_length, view.model_name, view.dtype) == (64, "tiny", "float32")
    view.close()
    assert engine.is_closed


def test_adapter_view_of_the_base_model_is_frozen():
    engine = Adapters()
    view = AdapterView(engine, BASE_MODEL)
    assert view.capabilities == {Capability.LOG_PROBS, Capability.ADAPTERS}
    asyncio.run(view.generate(GenerationRequest(CHAT, 0)))
    assert engine.calls == [("generate", BASE_MODEL)]
