"""The learning rate of models for which no other rate is known."""

import math

FULL_RATE, MEASURED_SIZE = 1e-5, 135e6
"""Learning rate of full fine-tuning that was measured to suit a model, and the number of its parameters."""
LORA_FACTOR = 10
"""A LoRA adapter needs about ten times the rate of full fine-tuning (Schulman 2025, "LoRA Without Regret")."""


def suited_rate(parameters: int, *, lora: bool) -> float:
    """Return the peak learning rate for a number of parameters, rounded to two digits."""
    rate = FULL_RATE * math.sqrt(MEASURED_SIZE / parameters) * (LORA_FACTOR if lora else 1)
    return float(f"{rate:.1e}")
