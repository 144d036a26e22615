"""From hidden states to logits, exactly as the model's own forward pass computes them."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast

from reason_envs.errors import ReasonEnvsError


class LogitsHead:
    """Maps hidden states to logits with the code of the model itself.

    Many models do more than multiply by the head: they cap the logits (Gemma 2), or scale them (Granite, Cohere,
    Falcon-H1). This class runs the model's own forward method on a shallow copy whose decoder returns the given states.
    The copy shares all parameters, so gradients and weight updates are those of the model.

    Args:
        model: a causal language model of transformers, without a PEFT wrapper around it.

    Raises:
        ReasonEnvsError: the model does not separate its decoder from its head.
    """

    def __init__(self, model: Any) -> None:
        decoder = model.base_model
        if decoder is model or model.get_output_embeddings() is None:
            raise ReasonEnvsError(
                f"{type(model).__name__} does not separate its decoder from its output head, so log-probabilities "
                "cannot be computed in chunks. Train another model, such as one of the Llama, Qwen or Gemma families."
            )
        self._states = _GivenStates(decoder)
        self._model = copy.copy(model)
        self._model._modules = {**model._modules, model.base_model_prefix: self._states}
        self.weight: Tensor = model.get_output_embeddings().weight
        """Weight of the head, [vocabulary, width]."""

    def __call__(self, states: Tensor) -> Tensor:
        """Return the logits [N, vocabulary] for hidden states [N, width]."""
        self._states.given = states[None]
        ids = torch.zeros(1, len(states), dtype=torch.long, device=states.device)
        try:
            out = self._model.forward(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
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
