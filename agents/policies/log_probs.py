"""From hidden states to log-probabilities of tokens: logits [B, T, vocabulary] are never held at once."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutputWithPast

from agents.policies.hidden_states import decoder_of
from reason_envs.errors import ReasonEnvsError

CHUNK_ELEMENTS = 1 << 24
"""Number of logits held at a time (64 MiB in float32), unless these are fewer rows than `CHUNK_ROWS`."""
CHUNK_ROWS = 1024
"""Minimum number of positions per chunk: 600 MiB of logits if the vocabulary has 152,000 tokens."""


class LogitsHead:
    """Maps hidden states to logits in float32, with the code of the model itself.

    Many models do more than multiply by the head: they cap the logits (Gemma 2), or scale them (Granite, Cohere,
    Falcon-H1). This class runs the model's own forward method on a shallow copy whose decoder returns the given states.
    The copy shares all parameters, so gradients and weight updates are those of the model.

    Args:
        model: a causal language model of transformers, without a PEFT wrapper around it.

    Raises:
        ReasonEnvsError: the model does not separate its decoder from its head.
    """

    def __init__(self, model: Any) -> None:
        decoder = decoder_of(model)
        if decoder is model or model.get_output_embeddings() is None:
            raise ReasonEnvsError(
                f"{type(model).__name__} does not separate its decoder from its output head, so log-probabilities "
                "cannot be computed in chunks. Train another model, such as one of the Llama, Qwen or Gemma families."
            )
        self._states = _GivenStates(decoder)
        self._model = copy.copy(model)
        parts = model._modules.items()
        self._model._modules = {name: self._states if part is decoder else part for name, part in parts}
        self.weight: Tensor = model.get_output_embeddings().weight
        """Weight of the head, [vocabulary, width]."""

    def __call__(self, states: Tensor) -> Tensor:
        """Return the logits [N, vocabulary] for hidden states [N, width]."""
        self._states.given = states[None].float()
        ids = torch.zeros(1, len(states), dtype=torch.long, device=states.device)
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
        weights = {name: parameter.float() for name, parameter in self._model.named_parameters()}
        try:
            out = functional_call(self._model, weights, kwargs=given)
        finally:
            self._states.given = None
        return out.logits[0]


class _Output(BaseModelOutputWithPast):
    """A decoder's output with hidden states only; every other field is ``None``."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class _GivenStates(nn.Module):
    """Stands in for a decoder: returns given hidden states, and the decoder's own attributes for everything else."""

    given: Any = None

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.__dict__["_decoder"] = decoder

    def __getattr__(self, name: str) -> Any:
        # OPT calls the decoder inside its decoder.
        return self if name == "decoder" else getattr(self.__dict__["_decoder"], name)

    def forward(self, *_: Any, **__: Any) -> _Output:
        """Return the given states."""
        return _Output(last_hidden_state=self.given)


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
    rows = max(CHUNK_ROWS, CHUNK_ELEMENTS // head.weight.shape[0])
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
