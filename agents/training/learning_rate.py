"""The learning rate of a model that nobody has tuned it for."""

import math
from dataclasses import replace
from typing import Any

from agents.algorithms.optimizer import OptimizerConfig
from agents.config.schema import TrainConfig, options
from agents.policies.roles import language_parts

FULL_RATE, MEASURED_SIZE = 1e-5, 135e6
"""Learning rate of full fine-tuning that was measured to suit a model, and the number of its parameters."""
LORA_FACTOR = 10
"""A LoRA adapter needs about ten times the rate of full fine-tuning (Schulman 2025, "LoRA Without Regret")."""


def with_learning_rate(config: TrainConfig, policy: Any) -> TrainConfig:
    """Return the configuration with a number in place of ``algo.optimizer.learning_rate=null``."""
    optimizer = options(config.algo).get("optimizer")
    if not isinstance(optimizer, OptimizerConfig) or optimizer.learning_rate is not None:
        return config
    part = next(iter(language_parts(policy).values()))
    rate = suited_rate(sum(p.numel() for p in part.model.parameters()), lora=config.policy.uses_lora)
    return replace(config, algo=replace(config.algo, optimizer=replace(optimizer, learning_rate=rate)))


def suited_rate(parameters: int, *, lora: bool) -> float:
    """Return the peak learning rate for a number of parameters, rounded to two digits."""
    rate = FULL_RATE * math.sqrt(MEASURED_SIZE / parameters) * (LORA_FACTOR if lora else 1)
    return float(f"{rate:.1e}")
