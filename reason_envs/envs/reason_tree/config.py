"""Options of the search tree: how it grows, and what an episode pays."""

from dataclasses import dataclass, field
from typing import Any

from reason_envs.envs.reason_tree.tree import AGGREGATIONS
from reason_envs.envs.task_environment import TaskConfig
from reason_envs.errors import OptionError
from reason_envs.rewards.math.extract import check_answer_fallbacks
from reason_envs.validation import Checked, limited


@dataclass
class StepConfig(Checked):
    """Options of solutions that a generator samples step by step."""

    max_depth: int = limited(15, at_least=1)
    """Maximum number of steps per path or solution."""
    max_step_tokens: int = limited(64, at_least=1)
    """Maximum number of tokens per step."""
    temperature: float = 1.0
    """Sampling temperature of the generator; 0 is greedy."""
    top_p: float = 1.0
    """Nucleus sampling of the generator: probability mass of the tokens that are kept; 1 keeps all tokens."""
    separator: str | None = None
    """Text that ends a step, or ``paragraphs``: a blank line ends a step, but display mathematics and blocks of code
    stay whole. ``None``: ``paragraphs`` for a model that does not ship with this package, otherwise a line break."""
    fallbacks: tuple[str, ...] = ()
    """Ways to find the answer of a step without a box: ``####``, ``last_number``; none by default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.separator == "":
            raise OptionError("separator", self.separator, "must not be empty: it ends a step.")
        self.fallbacks = check_answer_fallbacks(self.fallbacks)


@dataclass
class GrowthConfig(StepConfig):
    """Options of a growing tree, the same for the environment and every search method."""

    temperature: float = 0.8
    max_nodes: int = limited(80, at_least=2)
    """Maximum number of nodes per tree, the root included."""
    max_branch: int = limited(16, at_least=1)
    """Maximum number of different children per node."""
    aggregation: str = limited("product", one_of=AGGREGATIONS)
    """Aggregation of the step scores along a path into its value: ``product``, ``min``, ``last`` or ``sum``."""


@dataclass
class ReasonTreeConfig(GrowthConfig, TaskConfig):
    """Options of ReasonTree-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "chain_sum"})
    engine: Any = field(default_factory=lambda: {"name": "transformers"})
    """Generator of the steps: the name of an engine, a mapping of its ``name`` and options, or an engine."""
    reward_model: Any = field(default_factory=lambda: {"name": "transformers"})
    """Step reward model: its name, a mapping of its ``name`` and options, or a model."""
    device: str | None = None
    """Device of the generator and the reward model if their own options name none; ``None``: chosen by each."""
    system_prompt: str | None = None
    """Text of a system message before the problem, for the generator; ``None`` sends no system message."""
    reward: Any = "math"
    """Reward of the submitted answer: ``math``, ``random`` (a control that ignores the answer; both pay
    ``final_reward_...``), a function, the address of one (``"package.module:function"``), a mapping of its ``name``
    and options, or a list of these with weights (``weight``)."""
    max_steps: int | None = limited(None, at_least=1)
    """Maximum number of actions before the episode is truncated; ``None``: ``4 * max_depth``."""
    final_reward_correct: float = 1.0
    """Reward of a right answer."""
    final_reward_wrong: float = 0.0
    """Reward of a wrong or missing answer."""
    value_weight: float = 1.0
    """Weight of the change of the path value in the reward; 0 leaves the final reward and the costs."""
    expand_cost: float = limited(0.01, at_least=0)
    """Cost of the action EXPAND, subtracted from the reward."""
    branch_cost: float = limited(0.02, at_least=0)
    """Cost of the action BRANCH, subtracted from the reward."""
    backtrack_cost: float = limited(0.02, at_least=0)
    """Cost of the action BACKTRACK, subtracted from the reward."""
    step_penalty: float = limited(0.0, at_least=0)
    """Cost of every action, subtracted from the reward."""
    illegal_penalty: float = limited(0.1, at_least=0)
    """Cost of an illegal action, which has no other effect; subtracted from the reward."""
    seed_scope: str = limited("episode", one_of=("episode", "task"))
    """Seed of the generator's draws: that of the ``episode``, or of the ``task``. With ``task``, all episodes of a
    problem explore the same tree, as the recorded engine requires."""
