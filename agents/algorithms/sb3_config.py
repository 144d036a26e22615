"""Options of Stable-Baselines3's learners, in a separate file so that listing them does not load that library."""

from dataclasses import dataclass

from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.validation import at_least, within

MINIMUM = {
    **dict.fromkeys(("n_envs", "n_steps", "n_epochs"), 1),
    "batch_size": 2,
    **dict.fromkeys(("learning_rate", "clip_range", "ent_coef", "vf_coef", "max_grad_norm", "target_kl"), 0),
}
"""Minimum value of each option."""


@dataclass
class SB3PPOConfig:
    """Options of ``algo=sb3_ppo`` and ``algo=sb3_maskable_ppo``, under Stable-Baselines3's names."""

    n_envs: int = 64
    """Number of environments that step together."""
    n_steps: int = 32
    """Number of actions per environment between two updates."""
    batch_size: int = 256
    """Number of actions per optimizer step."""
    n_epochs: int = 4
    """Number of passes over each rollout."""
    learning_rate: float = 5e-4
    """Learning rate of Adam."""
    gamma: float = 1.0
    """Discount factor from one action to the next."""
    gae_lambda: float = 0.95
    """Lambda of the advantage estimation: 0 relies on the values, 1 on the rewards."""
    clip_range: float = 0.2
    """Probability ratios are clipped to this distance from 1."""
    ent_coef: float = 0.01
    """Coefficient of the entropy bonus."""
    vf_coef: float = 0.5
    """Coefficient of the value loss."""
    max_grad_norm: float = 0.5
    """Maximum norm of the gradients, which are scaled down to it."""
    normalize_advantage: bool = True
    """Whether the advantages of each optimizer step are shifted and scaled to mean 0 and standard deviation 1."""
    target_kl: float | None = None
    """KL divergence from the sampling weights, in nats, that ends the passes over a batch early: they end once a
    mini-batch exceeds 1.5 times this value; ``None``: never."""

    def __post_init__(self) -> None:
        at_least(self, **MINIMUM)
        within(self, 0, 1, "gamma", "gae_lambda")
        if self.n_envs * self.n_steps == 1:
            raise OptionError("n_steps", self.n_steps, "must be above 1 if n_envs=1: one action is too few to learn.")

    @property
    def tasks_per_step(self) -> int:
        """Raise an error, since a training step has a number of actions instead of a number of tasks."""
        raise ReasonEnvsError(
            "Stable-Baselines3 counts actions instead of episodes, so epochs= cannot be used: set steps= (each step "
            f"has {self.n_envs * self.n_steps} actions: algo.n_envs times algo.n_steps) and epochs=null."
        )
