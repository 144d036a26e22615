"""State values from the hidden states of a language model."""

from torch import Tensor, nn


class ValueHead(nn.Module):
    """A linear map from a hidden state of ``width`` numbers to the value of the state before its token.

    It is 0 before training. It is not part of the language model: it is neither sent to engines nor written by
    ``save_pretrained``. It computes in float32.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Return the values [N] of hidden states [N, width]."""
        return self.linear(states.float()).squeeze(-1)
