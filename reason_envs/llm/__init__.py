"""Language models inside environments: the engine protocol and the engines by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reason_envs.llm.engine import Engine, Generation, GenerationRequest, Sampling, TrainableEngine
from reason_envs.plugins import Plugin, Registry

ENGINES = Registry(
    "engine",
    {
        "transformers": Plugin(
            "reason_envs.llm.transformers_engine:TransformersEngine",
            "reason_envs.llm.transformers_engine:TransformersEngineConfig",
        ),
        "vllm": Plugin(
            "reason_envs.llm.vllm_engine:VllmEngine",
            "reason_envs.llm.vllm_options:VllmEngineConfig",
        ),
        "openai": Plugin(
            "reason_envs.llm.openai_engine:OpenAIEngine",
            "reason_envs.llm.openai_engine:OpenAIEngineConfig",
        ),
        "recorded": Plugin(
            "reason_envs.llm.recorded:RecordedEngine",
            "reason_envs.llm.recorded:RecordedEngineConfig",
        ),
    },
)
"""Engines by name; ``ENGINES.register(name, engine, config)`` adds one."""


def make_engine(spec: Engine | str | Mapping[str, Any], **overrides: Any) -> Engine:
    """Build an engine from a name or a mapping with ``name`` and options; an engine object passes through.

    Example:
        ``make_engine("transformers", model="embedded", device="cpu")``
    """
    if isinstance(spec, Mapping):
        options = {**spec, **overrides}
        return make_engine(options.pop("name"), **options)
    if not isinstance(spec, str):
        return spec
    return ENGINES[spec].load()(ENGINES.configure(spec, overrides))


__all__ = [
    "ENGINES",
    "Engine",
    "Generation",
    "GenerationRequest",
    "Sampling",
    "TrainableEngine",
    "make_engine",
]
