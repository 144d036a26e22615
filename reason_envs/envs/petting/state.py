"""State of the Petting environments, and result of a decision."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from reason_envs.envs.task_environment import TaskState


@dataclass(frozen=True)
class Entry:
    """One decision in the history that observations show."""

    role: str
    """Role that made the decision."""
    text: str
    """Response of the role."""
    outcome: str
    """Outcome of the decision in one line."""
    before: Any = None
    """State of the game before the decision."""


@dataclass(frozen=True)
class DecisionResult:
    """Result of one decision."""

    game: Any
    """State of the game after the decision."""
    outcome: str
    """Outcome of the decision in one line, which later observations show."""
    local: float = 0.0
    """Local reward of the role, besides the change of its contribution value."""
    contribution_value: float | None = None
    """Value of the contribution of a role that cannot change the game; the role earns its change. ``None`` for other
    roles."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Increase of each counter in ``info``."""
    valid: bool = True
    """Whether the response is readable, follows the rules and, if it is a program, ran to its end."""


@dataclass
class PettingState(TaskState):
    """State of an episode."""

    game: Any
    """State of the game: a frozen dataclass of each environment."""
    solved_at_start: bool
    """Whether the problem was solved before the first decision."""
    counts: dict[str, int]
    """Counters that ``info`` shows, by name."""
    decisions: int = 0
    """Number of decisions."""
    entries: list[Entry] = field(default_factory=list)
    """All decisions in order."""
    contribution_values: dict[str, float] = field(default_factory=dict)
    """Value of the latest contribution of each role that cannot change the game."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the containers; forks share games and entries, which never change."""
        return replace(
            self,
            counts=dict(self.counts),
            entries=list(self.entries),
            contribution_values=dict(self.contribution_values),
        )
