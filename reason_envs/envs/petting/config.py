"""The options that all Petting environments share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reason_envs.errors import ReasonEnvsError, unknown_name

TEAM, SINGLE = "team", "single"
PLAYERS = (TEAM, SINGLE)


@dataclass
class PettingConfig:
    """Options of every Petting environment."""

    tasks: Any = None
    """The problems: a family's name, a mapping of its ``name`` and options, or a ``TaskSet``."""
    split: str = "train"
    """Which part of them."""
    roles: str = TEAM
    """Who plays: ``team`` (an agent for each role), or ``single`` (one agent takes every role's decision, with the same
    tools and turns)."""
    max_turns: int = 4
    """Turns of an episode; in each, every role decides once."""
    alpha: float = 1.0
    """A decision earns ``alpha * team + local``."""
    history: int = 1
    """How many past decisions of each role an observation shows."""
    max_shown_chars: int = 2_000
    """Longest past response in characters that an observation shows whole; of a longer one it shows the end."""
    prompts: Mapping[str, str] | None = None
    """System message by role; ``None``: the built-in ones. A role without one gets none."""
    sandbox: Any = field(default_factory=lambda: {"name": "monty"})
    """Where programs run: a sandbox's name, a mapping of its ``name`` and options, or a ``Sandbox``."""
    program_seconds: float = 2.0
    """Time that a program gets; one that takes longer has no result."""
    max_response_chars: int = 4_000
    """Longest response in characters; a longer one cannot be read."""
    bad_format: float = 0.1
    """Subtracted where a response cannot be read, breaks the rules, or is a program that fails."""

    def __post_init__(self) -> None:
        if self.roles not in PLAYERS:
            raise unknown_name("roles", self.roles, PLAYERS)
        for name, least in (("max_turns", 1), ("history", 1), ("max_shown_chars", 1), ("max_response_chars", 1)):
            if getattr(self, name) < least:
                raise ReasonEnvsError(f"{name}={getattr(self, name)} must be at least {least}.")
        if self.program_seconds <= 0:
            raise ReasonEnvsError(f"program_seconds={self.program_seconds} must be above 0.")
        check_not_negative(self, "bad_format", "alpha")


def check_not_negative(config: Any, *names: str) -> None:
    """Refuse negative values of options that are amounts: penalties are subtracted."""
    for name in names:
        if getattr(config, name) < 0:
            raise ReasonEnvsError(
                f"{name}={getattr(config, name)} must not be negative; whether it is paid or subtracted is fixed."
            )
