"""Range checks of configurations, made when they are built."""

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
