"""Token sampling in which a token depends only on its logits, its seed and its position, not on the batch."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from reason_envs.errors import EngineError
from reason_envs.llm.engine import Sampling

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniforms(seeds: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Hash pairs of seed and position, [N] each, to uniform random numbers.

    The hash is the finaliser of SplitMix64 (Steele et al. 2014). Seeds are unsigned 64-bit numbers, positions those of
    the tokens within their completions.

    Returns:
        Numbers in [0, 1) with 53 random bits, [N].
    """
    with np.errstate(over="ignore"):
        state = _mix(_mix(seeds.astype(np.uint64)) + (positions.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class TokenSampler:
    """Samples one token per row by inverting the row's cumulative distribution at a uniform random number."""

    def __init__(self, samplings: Sequence[Sampling], device: torch.device) -> None:
        temperatures = torch.tensor([s.temperature for s in samplings], dtype=torch.float32)
        self._greedy = (temperatures == 0).to(device)
        self._temperatures = torch.where(temperatures == 0, 1.0, temperatures).to(device)[:, None]
        self._top_p = torch.tensor([s.top_p for s in samplings], dtype=torch.float32, device=device)[:, None]
        self._top_k = torch.tensor([s.top_k for s in samplings], device=device)[:, None]
        self._cuts = any(s.top_p < 1 or s.top_k > 0 for s in samplings)
        self._any_greedy = bool(self._greedy.any())

    def select(self, rows: Tensor) -> None:
        """Keep only the rows with these indices, [M]."""
        self._greedy, self._temperatures = self._greedy[rows], self._temperatures[rows]
        self._top_p, self._top_k = self._top_p[rows], self._top_k[rows]

    def __call__(self, logits: Tensor, uniform: np.ndarray) -> tuple[Tensor, Tensor]:
        """Sample one token per row of logits, [N, vocabulary], by random numbers in [0, 1), [N].

        Returns:
            Token ids [N] and their log-probabilities [N] at the sampling temperature, before top-p and top-k. Greedy
            rows use temperature 1.

        Raises:
            EngineError: the logits of a row are not numbers.
        """
        probs = torch.softmax(logits.float() / self._temperatures, dim=-1)
        remaining = _cut(probs, self._top_p, self._top_k) if self._cuts else probs
        cumulative = remaining.cumsum(-1, dtype=torch.float64)
        targets = torch.as_tensor(uniform, device=logits.device)[:, None] * cumulative[:, -1:]
        tokens = torch.searchsorted(cumulative, targets, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)
        if self._any_greedy:
            tokens = torch.where(self._greedy, logits.argmax(-1), tokens)
        sampled = probs.gather(-1, tokens[:, None]).squeeze(-1)
        chosen = sampled.clamp(min=torch.finfo(torch.float32).tiny).log()  # rounding may choose a probability of 0
        if bool(chosen.isnan().any()):
            raise EngineError(
                "The model's logits are NaN, so no token can be sampled: its weights or its activations overflow. Use "
                "dtype=bfloat16 or dtype=float32, or check the weights."
            )
        return tokens, chosen


def _cut(probs: Tensor, top_p: Tensor, top_k: Tensor) -> Tensor:
    """Set the probability of tokens outside top-k and top-p to 0. The most likely token always remains."""
    ordered, order = probs.sort(dim=-1, descending=True, stable=True)
    ranks = torch.arange(probs.shape[-1], device=probs.device)[None]
    keep = (top_k == 0) | (ranks < top_k)
    mass_before = ordered.cumsum(-1) - ordered
    keep = keep & ((mass_before < top_p) | (ranks == 0))
    return torch.zeros_like(probs).scatter(-1, order, ordered * keep)
