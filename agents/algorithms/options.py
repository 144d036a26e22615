"""Options of the algorithms, in a separate file so that listing them imports neither torch nor Stable-Baselines3."""

from dataclasses import dataclass, field

from agents.algorithms.config import LearnerConfig, OptimizerConfig
from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.validation import Checked, limited, one_of


@dataclass
class GRPOConfig(LearnerConfig):
    """Options of ``algo=grpo``."""

    samples_per_task: int = limited(8, at_least=2)
    """Number of episodes per task; they form the group that is compared."""
    scale: str = "std"
    """Divisor of the advantages: the group's sample standard deviation (``std``), that of all rewards of the agent in
    the training step (``batch``: groups with nearly equal rewards get small weights), or ``none``."""
    leave_one_out: bool = False
    """Whether an episode is compared with the mean of the others (RLOO) instead of the mean of all."""
    overlong_cache: int | None = limited(None, at_least=1)
    """Number of tokens before ``policy.max_tokens`` over which a penalty grows linearly from 0 to 1 (DAPO); ``None``:
    long responses get no penalty."""

    def __post_init__(self) -> None:
        from agents.advantages import SCALES

        super().__post_init__()
        one_of(self, scale=SCALES)


@dataclass
class ATGRPOConfig(GRPOConfig):
    """Options of ``algo=at_grpo``."""

    samples_per_task: int = 4
    """Number of candidates per turn of each agent (K); they form the group that is compared. A task is played once."""
    scale: str = "batch"
    """Divisor of the advantages: the sample standard deviation of all rewards of the agent in the training step
    (``batch``), that of the group (``std``), or ``none``."""
    select: str = limited("best", one_of=("best", "sample", "first"))
    """Candidate that an episode continues from: the ``best`` by reward, a random one (``sample``), or the ``first``."""


@dataclass
class PPOConfig(LearnerConfig):
    """Options of ``algo=ppo``."""

    tasks_per_step: int = 192
    """Number of tasks per training step."""
    minibatch_size: int | None = 512
    """Number of decisions per optimizer step. ``None``, or a number above the decisions of a training step: one
    optimizer step per pass."""
    epochs_per_batch: int = 4
    """Number of passes over the decisions of a training step."""
    gamma: float = limited(1.0, within=(0, 1))
    """Discount factor from one token or decision to the next."""
    lam: float = limited(0.95, within=(0, 1))
    """Lambda of the advantage estimation: 0 relies on the values (one-step errors), 1 on the rewards (Monte Carlo)."""
    gae_level: str = limited("token", one_of=("token", "turn"))
    """Steps of the advantage estimation: ``token``, or ``turn``: the tokens of a decision share value and advantage."""
    value_coef: float = limited(0.5, at_least=0)
    """Coefficient of the value loss."""
    value_learning_rate: float | None = limited(None, at_least=0)
    """Learning rate of the value head, whose gradients are then clipped separately; ``None``:
    ``optimizer.learning_rate``, with all gradients clipped together."""
    value_clip: float | None = limited(None, at_least=0)
    """Maximum change of a value since sampling that still lowers the value loss; ``None``: no limit."""
    normalise_advantages: bool = True
    """Whether the advantages of a training step are shifted and scaled to mean 0 and standard deviation 1."""
    entropy_coef: float = 0.01
    """Coefficient of the entropy bonus in the loss; 0 turns it off."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=1e-3, max_grad_norm=0.5))
    """Options of the optimizer: learning rate, schedule and clipping. The defaults suit the small graph network."""


@dataclass
class SB3PPOConfig(Checked):
    """Options of ``algo=sb3_ppo`` and ``algo=sb3_maskable_ppo``, under Stable-Baselines3's names."""

    n_envs: int = limited(64, at_least=1)
    """Number of environments that step together."""
    n_steps: int = limited(32, at_least=1)
    """Number of actions per environment between two updates."""
    batch_size: int = limited(256, at_least=2)
    """Number of actions per optimizer step."""
    n_epochs: int = limited(4, at_least=1)
    """Number of passes over each rollout."""
    learning_rate: float = limited(5e-4, at_least=0)
    """Learning rate of Adam."""
    gamma: float = limited(1.0, within=(0, 1))
    """Discount factor from one action to the next."""
    gae_lambda: float = limited(0.95, within=(0, 1))
    """Lambda of the advantage estimation: 0 relies on the values, 1 on the rewards."""
    clip_range: float = limited(0.2, at_least=0)
    """Probability ratios are clipped to this distance from 1."""
    ent_coef: float = limited(0.01, at_least=0)
    """Coefficient of the entropy bonus."""
    vf_coef: float = limited(0.5, at_least=0)
    """Coefficient of the value loss."""
    max_grad_norm: float = limited(0.5, at_least=0)
    """Maximum norm of the gradients, which are scaled down to it."""
    normalize_advantage: bool = True
    """Whether the advantages of each optimizer step are shifted and scaled to mean 0 and standard deviation 1."""
    target_kl: float | None = limited(None, at_least=0)
    """KL divergence from the sampling weights, in nats, that ends the passes over a batch early: they end once a
    mini-batch exceeds 1.5 times this value; ``None``: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_envs * self.n_steps == 1:
            raise OptionError("n_steps", self.n_steps, "must be above 1 if n_envs=1: one action is too few to learn.")

    @property
    def tasks_per_step(self) -> int:
        """Raise an error, since a training step has a number of actions instead of a number of tasks."""
        raise ReasonEnvsError(
            "Stable-Baselines3 counts actions instead of episodes, so epochs= cannot be used: set steps= (each step "
            f"has {self.n_envs * self.n_steps} actions: algo.n_envs times algo.n_steps) and epochs=null."
        )
