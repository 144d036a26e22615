"""Helpers of pure functions on [B, T] tensors, whose results must not depend on masked positions."""

import torch
from torch import Tensor

from reason_envs.errors import ReasonEnvsError


def zero_masked(values: Tensor, mask: Tensor) -> Tensor:
    """Return the values with 0 where ``mask`` is false, so that ``inf`` or ``nan`` there has no effect on gradients.

    Args:
        values: [B, T].
        mask: [B, T], boolean or 0/1.
    """
    return torch.where(mask.bool(), values, torch.zeros((), dtype=values.dtype, device=values.device))


def require_shape(shape: torch.Size, **tensors: Tensor | None) -> None:
    """Check that every given tensor has exactly this shape, so that nothing is broadcast silently.

    Raises:
        ReasonEnvsError: a tensor has another shape.
    """
    for name, tensor in tensors.items():
        if tensor is not None and tensor.shape != shape:
            raise ReasonEnvsError(f"{name} has shape {list(tensor.shape)} but must have shape {list(shape)}.")


def spread(values: Tensor, mask: Tensor, name: str) -> Tensor:
    """Repeat one value per sequence, [B], for each of its tokens; values [B, T] keep their shape. 0 where masked."""
    if values.ndim == 1:
        require_shape(mask.shape[:1], **{name: values})
        values = values[:, None].expand(mask.shape)
    require_shape(mask.shape, **{name: values})
    return zero_masked(values, mask)
