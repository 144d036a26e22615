"""Options that all Petting environments share."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from reason_envs.envs.task_environment import TaskConfig
from reason_envs.validation import at_least, limited

TEAM, SINGLE = "team", "single"


@dataclass
class PettingConfig(TaskConfig):
    """Options of every Petting environment."""

    roles: str = limited(TEAM, one_of=(TEAM, SINGLE))
    """Agents of the environment: ``team`` (one agent per role) or ``single`` (one agent makes every role's decisions,
    with the same tools and turns)."""
    max_turns: int = limited(4, at_least=1)
    """Maximum number of turns per episode; every role decides once per turn."""
    alpha: float = 1.0
    """Weight of the team reward: a decision earns ``alpha * team + local``."""
    history: int = limited(1, at_least=1)
    """Number of past decisions of each role in an observation."""
    max_shown_chars: int = limited(2_000, at_least=1)
    """Maximum number of characters of a past response in an observation; only the end of a longer one is shown."""
    prompts: Mapping[str, str] | None = None
    """System message of each role; ``None``: the built-in ones. A role that is left out has no system message."""
    sandbox: Any = field(default_factory=lambda: {"name": "monty"})
    """Sandbox that runs the programs: its name, a mapping of its ``name`` and options, or a ``Sandbox``."""
    program_seconds: float = limited(2.0, above=0)
    """Time limit of a program, in seconds; a program that takes longer has no result."""
    max_response_chars: int = limited(4_000, at_least=1)
    """Maximum number of characters of a response; a longer one is unreadable."""
    bad_format: float = 0.1
    """Penalty of a response that is unreadable, breaks the rules, or is a program that fails."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # These are rewards and costs, all written as positive numbers: games subtract the costs.
        at_least(self, **{option.name: 0 for option in fields(self) if option.type is float})
