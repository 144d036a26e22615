"""Attention for decoding in which heads with shared keys and values read them once instead of copying them."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "grouped_sdpa"


def grouped_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """Compute the same attention as ``sdpa``. For a single new position, the heads of a group become positions.

    Args:
        module: the attention layer.
        query: [B, heads, new, width].
        key: [B, groups, all, width].
        value: [B, groups, all, width of values].
        attention_mask: broadcasts to [B, heads, new, all].
        **options: ``scaling``, and other arguments of the model.

    Returns:
        The output, [B, new, heads, width of values], and ``None`` for the attention weights.
    """
    rows, heads, new, width = query.shape
    biased = options.get("position_bias") is not None
    per_head = biased or (attention_mask is not None and attention_mask.shape[1] != 1)
    if new != 1 or per_head or module.training:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    grouped = query.view(rows, key.shape[1], -1, width)
    out = torch.nn.functional.scaled_dot_product_attention(
        grouped, key, value, attn_mask=attention_mask, scale=options.get("scaling")
    )
    return out.reshape(rows, 1, heads, -1), None


def use_grouped_attention(model: Any) -> None:
    """Switch a model that uses ``sdpa`` to grouped attention."""
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
