"""Language models inside environments: the engine interface, and the engines by name.

`engine.py` is the interface; `engines/` has the implementations, and the other files are what they share.
May import the registry and batching; never tasks or environments.
"""

from collections.abc import Mapping
from typing import Any

from reason_envs.llm.engine import Capability, Engine, Generation, GenerationRequest, Sampling, TrainableEngine
from reason_envs.registry import Part, Registry

__all__ = [
    "ENGINES",
    "Capability",
    "Engine",
    "Generation",
    "GenerationRequest",
    "Sampling",
    "TrainableEngine",
    "make_engine",
]
ENGINES: Registry[Engine] = Registry(
    "engine", "reason_envs.engines", Part.built_in("reason_envs", "reason_envs.engines"), Engine
)
"""Engines by name; ``ENGINES.register(name, engine, config)`` adds one."""


def make_engine(spec: Engine | str | Mapping[str, Any], **options: Any) -> Engine:
    """Build an engine from a name or a mapping with ``name`` and options; an engine is returned as it is.

    Example:
        ``make_engine("transformers", model="embedded", device="cpu")``
    """
    return ENGINES.make(spec, **options)


def placed(spec: Any, device: str | None) -> Any:
    """Add a device to an engine or reward model that is given by name, unless it names one or is on a server."""
    spec = {"name": spec} if isinstance(spec, str) else spec
    described = device is not None and isinstance(spec, Mapping) and spec.get("name") != "openai"
    return {"device": device, **spec} if described else spec
