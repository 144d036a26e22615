"""Embeddings of samples: the model's last hidden state, projected to a few numbers."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from reason_envs.core import derive_seed

SCALE = 3.0
"""Standard deviations of a projected number that are mapped to 1; larger numbers are clipped."""
DECIMALS = 4
"""Decimals of a number, so that a record has exactly the numbers of the engine."""


class Embedder:
    """Keeps the hidden states from which a model predicts its next tokens, and projects them.

    A state is normalised to mean 0 and variance 1. A fixed random matrix projects it to ``size`` numbers, which keeps
    distances approximately (Johnson-Lindenstrauss).
    """

    def __init__(self, model: Any, size: int) -> None:
        head = model.get_output_embeddings()
        generator = np.random.default_rng(derive_seed(0, "embedding"))
        matrix = generator.standard_normal((head.weight.shape[1], size)) / math.sqrt(head.weight.shape[1])
        self._matrix = torch.tensor(matrix / SCALE, dtype=torch.float32, device=model.device)
        self._states = torch.empty(0)
        head.register_forward_pre_hook(self._keep)

    def _keep(self, head: Any, inputs: tuple[Tensor, ...]) -> None:
        self._states = inputs[0][:, -1]

    def select(self, rows: Tensor) -> None:
        """Select the states of these rows, in this order."""
        self._states = self._states[rows]

    def embed(self, rows: list[int]) -> list[list[float]]:
        """Return the embeddings of these rows of the latest forward pass, each in [-1, 1]."""
        states = self._states[rows].float()
        projected = (layer_norm(states, states.shape[-1:]) @ self._matrix).clamp(-1.0, 1.0)
        return [[round(number, DECIMALS) for number in row] for row in projected.tolist()]
