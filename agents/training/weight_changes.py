"""A temporary random change of all trained weights, with which the weight canary tests their way to the engine."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.distributed.tensor import DTensor

from agents.policies.base import TrainablePolicy
from reason_envs.core import derive_seed

ROW_SCALE = 0.1
"""Relative standard deviation of the change to the rows of a tensor."""
ADAPTER_SCALE = 0.2
"""Standard deviation of the change to an adapter's layers, relative to a layer that keeps the size of its input."""


@contextmanager
def changed_weights(policy: TrainablePolicy, share: float) -> Iterator[None]:
    """Change all trained weights by a share of the full change within a context, and restore them bit by bit."""
    before = {name: parameter.detach().clone() for name, parameter in policy.named_parameters()}
    try:
        with torch.no_grad():
            for name, parameter in policy.named_parameters():
                rows = parameter.to_local() if isinstance(parameter, DTensor) else parameter  # they share memory
                in_adapter = ".lora_" in name
                shape = rows.shape if in_adapter else [*rows.shape[:1], *[1] * (rows.ndim - 1)]
                generator = torch.Generator(rows.device).manual_seed(derive_seed(0, "canary", name))
                noise = share * torch.randn(shape, generator=generator, device=rows.device).to(rows.dtype)
                # Some matrices of an adapter are zero at first.
                rows += ADAPTER_SCALE / shape[-1] ** 0.5 * noise if in_adapter else ROW_SCALE * noise * rows
        yield
    finally:
        with torch.no_grad():
            for name, parameter in policy.named_parameters():
                parameter.copy_(before[name])
