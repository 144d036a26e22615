"""Attention for training in lower precision on a CPU: gradients are computed in float32.

On a CPU, the backward pass of PyTorch's attention takes about 20 times as long in bfloat16 as in float32. The forward
pass is that of ``sdpa``, so that learner and engine agree.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sdpa_float32_gradients"


class _Attention(torch.autograd.Function):
    """Applies a function to query, key and value. The backward pass repeats it in float32."""

    @staticmethod
    def forward(ctx: Any, attend: Callable[..., Tensor], *given: Tensor) -> Tensor:
        ctx.attend = attend
        ctx.save_for_backward(*given)
        return attend(*given)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        given = ctx.saved_tensors  # read once, as gradient checkpointing requires
        exact = [tensor.detach().float().requires_grad_() for tensor in given]
        with torch.enable_grad(), torch.autocast("cpu", enabled=False):
            out = ctx.attend(*exact)
        gradients = torch.autograd.grad(out, exact, gradient.float())
        return None, *(g.to(tensor.dtype) for g, tensor in zip(gradients, given, strict=True))


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """Compute the same as ``sdpa``, with gradients in float32.

    With dropout or a position bias, the gradients are those of ``sdpa``: a repetition would drop other elements, and a
    position bias may need a gradient itself.
    """

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mask = attention_mask
        if mask is not None and mask.is_floating_point():
            mask = mask.to(query.dtype)
        return sdpa_attention_forward(module, query, key, value, mask, **options)[0]

    if options.get("dropout") or options.get("position_bias") is not None:
        return attend(query, key, value), None
    return _Attention.apply(attend, query, key, value), None


def use_float32_gradients(model: Any) -> None:
    """Switch a model from ``sdpa`` to `attention`."""
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
