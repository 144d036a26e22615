"""Sandboxes that run programs written by a model: one interface, several implementations by name.

Monty (an interpreter), native (Linux isolation), container, and http (a server).
May import the registry, resources and errors only.
"""

import warnings
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from reason_envs.registry import Part, Registry
from reason_envs.sandbox.base import Limits, Outcome, Program, Sandbox
from reason_envs.sandbox.values import Opaque, Raised, literal

# Parsed code of models is a text of others: its warnings do not belong on standard error.
warnings.filterwarnings("ignore", category=SyntaxWarning, module=r"<(unknown|response)>")
SANDBOXES: Registry[Sandbox] = Registry(
    "sandbox", "reason_envs.sandboxes", Part.built_in("reason_envs", "reason_envs.sandboxes"), Sandbox
)
"""Sandboxes by name; ``SANDBOXES.register(name, sandbox, config)`` adds one."""
BUILDER: ContextVar[Callable[..., Sandbox]] = ContextVar("builder", default=SANDBOXES.make)
"""The function behind `make_sandbox`. A cluster sets another one, so that programs run on its computers."""


def make_sandbox(spec: Sandbox | str | Mapping[str, Any], **options: Any) -> Sandbox:
    """Build a sandbox. Nothing is started before its first program.

    Args:
        spec: a name (``monty``, ``native``, ``container``, ``http``), a mapping with ``name`` and options, or a
            ``Sandbox``, which is returned as it is.
        options: fields of its configuration.
    """
    return BUILDER.get()(spec, **options)


__all__ = ["SANDBOXES", "Limits", "Opaque", "Outcome", "Program", "Raised", "Sandbox", "literal", "make_sandbox"]
