"""Checks of the values of configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reason_envs.errors import ReasonEnvsError


def check_least(config: Any, prefix: str, least: Mapping[str, float]) -> None:
    """Refuse options below their smallest value.

    Args:
        config: the dataclass; options that are ``None`` are off and pass.
        prefix: where the options stand, such as ``"algo."``.
        least: the smallest value of each option.
    """
    for name, smallest in least.items():
        value = getattr(config, name)
        if value is not None and not value >= smallest:
            raise ReasonEnvsError(f"{prefix}{name}={value} must be at least {smallest}.")


def bad_value(error: BaseException, otherwise: str) -> ReasonEnvsError:
    """Build the error for a value that OmegaConf or YAML refuses; ``otherwise`` is named where they name no key."""
    return ReasonEnvsError(f"Bad value of {refused_key(error) or otherwise}: {str(error).strip().splitlines()[0]}.")


def refused_key(error: BaseException) -> str:
    """Return the key that an error of OmegaConf names on a line of its own, if it does."""
    facts = str(error).splitlines()
    return next((fact.split(":", 1)[1].strip() for fact in facts if "full_key:" in fact), "")
