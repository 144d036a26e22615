"""Warnings about runs that cannot learn, each with the option that fixes it."""

from collections.abc import Mapping
from typing import Any

from agents.algorithms.config import OptimizerConfig
from agents.config.schema import TrainConfig, options
from reason_envs.resources import read_table
from reason_envs.rewards import RewardConfig

PATIENCE = 3
"""Training steps in a row after which a warning is given."""
SHARES = {
    "no answers": ("frac_no_answer", 0.9),
    "no gradient": ("frac_zero_std", 1.0),
    "cut off": ("frac_truncated", 0.5),
}
"""Metric of each warning about a share, and the share from which on a run is warned."""
KL_LIMIT = 0.1
"""KL divergence per token (nats) above which a policy has usually forgotten how to write."""
SILENCE_MARGIN = 0.1
"""How much more than an answer silence must earn on average."""
TEXTS: dict[str, str] = read_table(__file__, "health.yaml")
"""Text of each warning, with places for the values of `found`."""


def found(metrics: Mapping[str, float], config: TrainConfig) -> dict[str, dict[str, Any]]:
    """Return the warnings that apply to the metrics of a training step, each with the values of its text."""
    applying: dict[str, dict[str, Any]] = {}
    for warning, (metric, limit) in SHARES.items():
        if (share := metrics.get(metric, 0.0)) >= limit:
            applying[warning] = {"share": share, "max_tokens": options(config.policy).get("max_tokens")}
    reward, answered = options(config.env).get("reward"), 1 - metrics.get("frac_no_answer", 0.0)
    if isinstance(reward, RewardConfig) and reward.name in ("math", "code") and "accuracy" in metrics and answered:
        right = metrics["accuracy"] / answered
        earned = right * reward.correct + (1 - right) * reward.wrong
        if reward.no_answer - earned >= SILENCE_MARGIN:
            applying["silence pays"] = {"right": right, "earned": earned, "no_answer": reward.no_answer}
    name = max(("kl", "approx_kl", "step_kl"), key=lambda key: metrics.get(key, 0.0))
    optimizer = options(config.algo).get("optimizer")
    if not metrics.get(name, 0.0) < KL_LIMIT and isinstance(optimizer, OptimizerConfig):  # NaN counts too
        applying["moves too fast"] = {"name": name, "kl": metrics[name], "rate": optimizer.learning_rate}
    return applying


def due_warnings(metrics: Mapping[str, Any], config: TrainConfig, counts: dict[str, int]) -> list[str]:
    """Return the warnings that are due after a training step with these metrics, each once in a run.

    ``counts`` is the number of steps in a row to which each warning has applied, and is updated. It stays at
    ``PATIENCE``, at which the warning is due.
    """
    applying = found(metrics, config)
    waiting = [name for name in TEXTS if counts.get(name, 0) < PATIENCE]
    counts.update({name: counts.get(name, 0) + 1 if name in applying else 0 for name in waiting})
    return [f"Warning: {TEXTS[name].format(**applying[name])}" for name in waiting if counts[name] == PATIENCE]
