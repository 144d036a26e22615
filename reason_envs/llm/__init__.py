"""Language models inside environments: the engine protocol and the engines by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.llm.engine import Engine, Generation, GenerationRequest, Sampling, TrainableEngine

_ENGINES: dict[str, tuple[str, str]] = {
    "transformers": (
        "reason_envs.llm.transformers_engine:TransformersEngine",
        "reason_envs.llm.transformers_engine:TransformersEngineConfig",
    ),
}


def register_engine(name: str, engine: str, config: str) -> None:
    """Add an engine under a name.

    Args:
        name: what ``engine=`` takes.
        engine: ``"package.module:Class"``; the class is called with one instance of its configuration.
        config: ``"package.module:Dataclass"``, the one source of the engine's defaults.
    """
    if name in _ENGINES:
        raise ReasonEnvsError(f"Engine {name!r} is registered already as {_ENGINES[name][0]}.")
    _ENGINES[name] = (engine, config)


def engine_names() -> list[str]:
    """Return every registered engine name."""
    return sorted(_ENGINES)


def engine_config(name: str) -> type:
    """Return the configuration dataclass of an engine."""
    if name not in _ENGINES:
        raise unknown_name("engine", name, _ENGINES)
    return _import(_ENGINES[name][1])


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
    config = engine_config(spec)
    unknown = sorted(overrides.keys() - config.__dataclass_fields__.keys())
    if unknown:
        raise unknown_name(f"option of engine {spec}", unknown[0], config.__dataclass_fields__)
    return _import(_ENGINES[spec][0])(config(**overrides))


def _import(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


__all__ = [
    "Engine",
    "Generation",
    "GenerationRequest",
    "Sampling",
    "TrainableEngine",
    "engine_config",
    "engine_names",
    "make_engine",
    "register_engine",
]
