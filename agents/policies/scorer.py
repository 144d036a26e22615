"""The evaluation of stored responses by a language model as one module, which sharded weights require."""

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from agents.policies.attention import use_float32_gradients
from agents.policies.hidden_states import ValueHead, token_states
from agents.policies.log_probs import LogitsHead, token_log_probs
from agents.policies.padding import Batch


class Scorer(nn.Module):
    """A causal language model with an optional value head; one forward pass evaluates a batch of responses.

    The weights are read inside ``forward`` only.

    Args:
        model: the language model. An adapter is a part of its layers, so it has no PEFT wrapper around it.
        device: the device that computes.
        precision: data type of the decoder's forward pass. The heads compute in float32, and on a CPU the gradients of
            attention, too: the model's attention is replaced for that.
    """

    def __init__(self, model: Any, device: torch.device, precision: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.device = device
        self.precision = precision
        exact = {precision, model.dtype} == {torch.float32}
        if device.type == "cpu" and not exact and model.config._attn_implementation == "sdpa":
            use_float32_gradients(model)
        self.share_prompts = True
        """Whether each prompt of a batch is computed once. Gradient checkpointing does not allow it."""
        self.value_head: ValueHead | None = None
        """The head that computes state values. ``None``: ``forward`` returns no values."""

    def forward(
        self, batch: Batch, temperatures: Tensor, *, entropy_gradient: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Evaluate the N sampled tokens of a batch on ``device``, which were drawn at ``temperatures``, [N].

        Returns:
            Log-probabilities [N], entropies [N], and state values [N] or ``None``, all in float32.
        """
        mask = batch.response_mask
        share = self.share_prompts and not self.model.is_gradient_checkpointing
        with self.autocast():
            states = token_states(self.model, batch, share_prompts=share)[mask]
        targets = batch.input_ids[:, batch.prompt_width :][mask]
        head = LogitsHead(self.model)
        scores = token_log_probs(head, states, targets, temperatures, entropy_gradient=entropy_gradient)
        return *scores, None if self.value_head is None else self.value_head(states)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which the decoder computes in ``precision``."""
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)


def frozen_copy(model: nn.Module, place: torch.device, dtype: torch.dtype | None) -> Any:
    """Copy a model to a device, for evaluation only; ``dtype=None`` keeps the data type of the weights."""
    copies = {id(p): p.detach().to(place, dtype or p.dtype, copy=True) for p in model.parameters()}
    frozen = {key: nn.Parameter(weights, requires_grad=False) for key, weights in copies.items()}
    return copy.deepcopy(model, frozen).to(place).eval()
