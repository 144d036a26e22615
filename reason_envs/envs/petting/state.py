"""What an episode of the Petting environments remembers, and what a decision does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from reason_envs.envs.task_environment import TaskState


@dataclass(frozen=True)
class Entry:
    """One decision as later observations show it."""

    role: str
    """Who decided."""
    text: str
    """The response."""
    outcome: str
    """What came of it, in a line."""
    before: Any = None
    """The state of the problem that it was made in."""


@dataclass(frozen=True)
class Effect:
    """What a decision does."""

    game: Any
    """The state of the problem afterwards."""
    outcome: str
    """What came of it, in a line."""
    local: float = 0.0
    """What the role earns for its own part."""
    worth: float | None = None
    """Of a role that cannot move the state: what its latest contribution is worth; it earns the change."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What is to be counted."""
    valid: bool = True
    """Whether the response could be read, keeps the rules and, as a program, ran to its end."""


@dataclass
class PettingState(TaskState):
    """State of an episode."""

    game: Any
    """The state of the problem: a frozen dataclass of each environment, which nothing changes."""
    solved_at_start: bool
    """Whether nothing was left to do."""
    counts: dict[str, int]
    """How often what happened."""
    decisions: int = 0
    """Decisions made."""
    entries: list[Entry] = field(default_factory=list)
    """The decisions in order."""
    worth: dict[str, float] = field(default_factory=dict)
    """What the latest contribution of each role that cannot move the state is worth."""

    def __deepcopy__(self, memo: dict[int, Any]) -> PettingState:
        """Copy what changes; games and entries never do, so that forks share them."""
        return replace(self, counts=dict(self.counts), entries=list(self.entries), worth=dict(self.worth))
