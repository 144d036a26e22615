"""Running programs that a model wrote: one interface, several implementations, chosen by name.

Monty (an interpreter), native (Linux isolation), containers, and a server over HTTP.
May import the registry and the errors only.
"""

from __future__ import annotations

from typing import Any

from reason_envs.errors import ReasonEnvsError
from reason_envs.registry import Plugin, Registry
from reason_envs.sandbox.base import Limits, Outcome, Program, Sandbox
from reason_envs.sandbox.values import Opaque, Raised, literal

SANDBOXES = Registry(
    "sandbox",
    {
        "monty": Plugin("reason_envs.sandbox.monty:MontySandbox", "reason_envs.sandbox.monty:MontyConfig"),
        "native": Plugin("reason_envs.sandbox.native:NativeSandbox", "reason_envs.sandbox.native:NativeConfig"),
        "container": Plugin(
            "reason_envs.sandbox.container:ContainerSandbox", "reason_envs.sandbox.container:ContainerConfig"
        ),
        "http": Plugin("reason_envs.sandbox.http:HttpSandbox", "reason_envs.sandbox.http:HttpConfig"),
    },
)
"""Ways to run programs by name; a package adds its own under the entry-point group ``reason_envs.sandboxes``."""


def make_sandbox(spec: Any, **options: Any) -> Sandbox:
    """Build a sandbox; nothing is started before its first program.

    Args:
        spec: a name (``monty``, ``native``, ``container``, ``http``), or a ``Sandbox``, which is returned as it is.
        options: fields of its configuration.
    """
    if isinstance(spec, Sandbox):
        if options:
            raise ReasonEnvsError(
                f"Options {sorted(options)} for a sandbox that exists already: give them to its config."
            )
        return spec
    return SANDBOXES[spec].load()(SANDBOXES.configure(spec, options))


__all__ = ["SANDBOXES", "Limits", "Opaque", "Outcome", "Program", "Raised", "Sandbox", "literal", "make_sandbox"]
