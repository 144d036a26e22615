"""The options of the search tree: how steps are drawn, and what an episode pays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reason_envs.envs.reason_tree.tree import AGGREGATIONS
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.rewards.math.extract import check_answer_fallbacks

DRAWS = ("episode", "task")


@dataclass
class GrowthConfig:
    """How a tree grows; the environment and every search method share it."""

    max_depth: int = 15
    """Most steps of a path."""
    max_nodes: int = 80
    """Most nodes of a tree, the root included."""
    max_branch: int = 16
    """Most different children of a node."""
    max_step_tokens: int = 64
    """Most tokens of a step."""
    temperature: float = 0.8
    """Sampling temperature of the generator."""
    top_p: float = 1.0
    """Nucleus of the generator; 1 keeps all tokens."""
    separator: str = "\n"
    """What ends a step."""
    aggregation: str = "product"
    """How the step scores along a path become its value: ``product``, ``min``, ``last`` or ``sum``."""
    fallbacks: tuple[str, ...] = ()
    """Where else than in a box a step's answer is looked for: ``####``, ``last_number``."""

    def __post_init__(self) -> None:
        for name, least in (("max_depth", 1), ("max_nodes", 2), ("max_branch", 1), ("max_step_tokens", 1)):
            if getattr(self, name) < least:
                raise ReasonEnvsError(f"{name}={getattr(self, name)} must be at least {least}.")
        if not self.separator:
            raise ReasonEnvsError("separator='' must be text: it ends a step.")
        if self.aggregation not in AGGREGATIONS:
            raise unknown_name("aggregation", self.aggregation, AGGREGATIONS)
        self.fallbacks = check_answer_fallbacks(self.fallbacks)


@dataclass
class ReasonTreeConfig(GrowthConfig):
    """Options of ReasonTree-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "chain_sum"})
    """The problems: a family's name, a mapping of its ``name`` and options, or a ``TaskSet``."""
    split: str = "train"
    """Which part of them."""
    engine: Any = field(default_factory=lambda: {"name": "transformers"})
    """The generator: an engine's name, a mapping of its ``name`` and options, or an engine."""
    reward_model: Any = field(default_factory=lambda: {"name": "transformers"})
    """The step reward model: a name, a mapping of its ``name`` and options, or a model."""
    device: str | None = None
    """Device of the generator and the reward model, unless their own options name one."""
    system_prompt: str | None = None
    """Text of a system message before the problem; ``None`` sends none."""
    reward: Any = "math"
    """What judges the submitted answer: ``math``, ``random`` (the control; both pay ``final_reward_...``),
    ``"package.module:function"`` or a function."""
    max_steps: int | None = None
    """Actions after which an episode is truncated; ``None``: ``4 * max_depth``."""
    final_reward_correct: float = 1.0
    """Paid for a right answer."""
    final_reward_wrong: float = 0.0
    """Paid for a wrong answer or none."""
    value_weight: float = 1.0
    """Weight of the path value's change; 0 leaves the final reward and the costs."""
    expand_cost: float = 0.01
    """Cost of EXPAND."""
    branch_cost: float = 0.02
    """Cost of BRANCH."""
    backtrack_cost: float = 0.02
    """Cost of BACKTRACK."""
    step_penalty: float = 0.0
    """Cost of every action."""
    illegal_penalty: float = 0.1
    """Cost of an illegal action, which changes nothing else."""
    draws: str = "episode"
    """What keys the generator's draws: the ``episode``, or the ``task`` alone (every episode of a problem then explores
    one and the same tree, which is what a record holds)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_steps is not None and self.max_steps < 1:
            raise ReasonEnvsError(f"max_steps={self.max_steps} must be at least 1, or None for 4 * max_depth.")
        for name in ("expand_cost", "branch_cost", "backtrack_cost", "step_penalty", "illegal_penalty"):
            if getattr(self, name) < 0:
                raise ReasonEnvsError(f"{name}={getattr(self, name)} must not be negative: it is subtracted.")
        if self.draws not in DRAWS:
            raise unknown_name("draws", self.draws, DRAWS)

    @property
    def step_limit(self) -> int:
        """Actions after which an episode is truncated."""
        return 4 * self.max_depth if self.max_steps is None else self.max_steps
