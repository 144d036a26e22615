"""Log-probabilities of chosen tokens with bounded memory: logits [B, T, vocabulary] are never held at once."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from agents.policies.logits import LogitsHead

CHUNK_ELEMENTS = 1 << 24
"""Maximum number of logits held at a time (64 MiB in float32)."""


def token_log_probs(
    head: LogitsHead | nn.Linear,
    states: Tensor,
    targets: Tensor,
    temperatures: Tensor,
    *,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of the target tokens and the entropies, in float32.

    Positions are processed in chunks. With gradients and several chunks, the backward pass recomputes the logits of
    each chunk, so that the memory does not grow with positions x vocabulary.

    Args:
        head: the layer that maps hidden states to logits.
        states: hidden states that predict the targets, [N, width].
        targets: ids of the target tokens, [N].
        temperatures: sampling temperature of each position, [N]; logits are divided by it.
        entropy_gradient: whether the entropies have gradients, which only an entropy bonus needs.

    Returns:
        Log-probabilities [N] and entropies [N].
    """
    rows = max(1, CHUNK_ELEMENTS // head.weight.shape[0])
    parts = []
    for start in range(0, max(len(targets), 1), rows):
        args = (head, states[start : start + rows], targets[start : start + rows], temperatures[start : start + rows])
        if len(targets) > rows and torch.is_grad_enabled():
            parts.append(checkpoint(_chunk, *args, entropy_gradient, use_reentrant=False))
        else:
            parts.append(_chunk(*args, entropy_gradient))
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def _chunk(
    head: LogitsHead | nn.Linear, states: Tensor, targets: Tensor, temperatures: Tensor, entropy_gradient: bool
) -> tuple[Tensor, Tensor]:
    log_probs = torch.log_softmax(head(states).float() / temperatures[:, None], dim=-1)
    chosen = log_probs.gather(-1, targets[:, None]).squeeze(-1)
    source = log_probs if entropy_gradient else log_probs.detach()
    return chosen, -(source.exp() * source).sum(-1)
