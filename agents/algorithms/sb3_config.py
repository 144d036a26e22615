"""Options of Stable-Baselines3's learners, apart from them: listing them must not load that library."""

from __future__ import annotations

from dataclasses import dataclass

from reason_envs.errors import ReasonEnvsError
from reason_envs.validation import at_least

LEAST = {
    **dict.fromkeys(("n_envs", "n_steps", "n_epochs"), 1),
    "batch_size": 2,
    **dict.fromkeys(("learning_rate", "clip_range", "ent_coef", "vf_coef", "max_grad_norm", "target_kl"), 0),
}
"""The smallest value of an option."""


@dataclass
class SB3PPOConfig:
    """Options of ``algo=sb3_ppo`` and ``algo=sb3_maskable_ppo``, under Stable-Baselines3's names."""

    n_envs: int = 64
    """Environments that step together."""
    n_steps: int = 32
    """Actions in each of them between two updates."""
    batch_size: int = 256
    """Actions of an optimizer step."""
    n_epochs: int = 4
    """Passes over each rollout."""
    learning_rate: float = 5e-4
    """Of Adam."""
    gamma: float = 1.0
    """Discount."""
    gae_lambda: float = 0.95
    """Advantages trust the values (0) or the rewards (1)."""
    clip_range: float = 0.2
    """Ratios are clipped further than this from 1."""
    ent_coef: float = 0.01
    """Coefficient of the entropy bonus."""
    vf_coef: float = 0.5
    """Coefficient of the value loss."""
    max_grad_norm: float = 0.5
    """Gradients are scaled down to this norm."""
    normalize_advantage: bool = True
    """Shift and scale the advantages of each optimizer step."""
    target_kl: float | None = None
    """End the passes once a mini-batch is further than 1.5 times this from the sampling weights."""

    def __post_init__(self) -> None:
        at_least(self, **LEAST)
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ReasonEnvsError(f"algo.{name}={getattr(self, name)} must lie in [0, 1].")
        if self.n_envs * self.n_steps == 1:
            raise ReasonEnvsError("algo.n_envs=1 with algo.n_steps=1 is a single action, too few to learn from.")

    @property
    def tasks_per_step(self) -> int:
        """Say that there is no such number."""
        raise ReasonEnvsError(
            "Stable-Baselines3 counts actions, not episodes, so that epochs= has no meaning: give steps= (each takes "
            f"{self.n_envs * self.n_steps} actions: algo.n_envs times algo.n_steps) and epochs=null."
        )
