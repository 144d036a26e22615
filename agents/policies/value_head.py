"""State values read off a language model's hidden states."""

from __future__ import annotations

from torch import Tensor, nn


class ValueHead(nn.Module):
    """A linear map from a hidden state to the value of the state before its token; 0 before training.

    It is no part of the language model: engines and ``save_pretrained`` never see it. It computes in float32.

    Args:
        width: of the hidden states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Return the values of hidden states [N, width]: [N]."""
        return self.linear(states.float()).squeeze(-1)
