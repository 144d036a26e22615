"""Hidden states that predict the sampled tokens, computed once per prompt, and the state values from them."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from agents.policies.padding import Batch


def token_states(model: Any, batch: Batch, *, share_prompts: bool) -> Tensor:
    """Return the last hidden states before each response token, [B, T, width].

    With ``share_prompts``, keys and values are kept between two passes, which gradient checkpointing does not allow.
    """
    # Other kinds of layers (sliding, recurrent) overwrite tensors that gradients need.
    if share_prompts and all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers):
        prompts, which = batch.same_prompt.unique(return_inverse=True)
        if len(prompts) < len(which):
            return after_shared_prompts(model, batch, prompts, which)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "position_ids": batch.position_ids}
    return decoder_of(model)(**inputs, use_cache=False).last_hidden_state[:, batch.prompt_width - 1 : -1]


def decoder_of(model: Any) -> Any:
    """Return the decoder below a head; the model itself if it has none. The prefix of Llama 4 names no module."""
    return model._modules.get("model", model) if model.base_model is model else model.base_model


def after_shared_prompts(model: Any, batch: Batch, prompts: Tensor, which: Tensor) -> Tensor:
    """Compute the rows ``prompts`` once, then each response from the keys and values of its prompt (``which``)."""
    cache: Any = DynamicCache(config=model.config)
    width, keeping = batch.prompt_width, {"past_key_values": cache, "use_cache": True}
    before = decoder_of(model)(
        input_ids=batch.input_ids[prompts, :width],
        attention_mask=batch.attention_mask[prompts, :width],
        position_ids=batch.position_ids[prompts, :width],
        **keeping,
    ).last_hidden_state
    first = before[:, -1:].index_select(0, which)
    if batch.response_mask.shape[1] == 1:
        return first
    for layer in cache.layers:  # the gradients of keys[which], which transformers uses, depend on the timing of threads
        layer.keys, layer.values = layer.keys.index_select(0, which), layer.values.index_select(0, which)
    after = decoder_of(model)(
        input_ids=batch.input_ids[:, width:-1],
        attention_mask=batch.attention_mask[:, :-1],
        position_ids=batch.position_ids[:, width:-1],
        **keeping,
    ).last_hidden_state
    return torch.cat([first, after], dim=1)


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
        # A copy, since the hooks of sharded modules (FSDP2) do not follow views.
        return self.linear(states.float()).squeeze(-1).clone()
