"""A temporary random change of all trained weights, with which the weight canary tests their way to the engine."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from agents.policies.base import TrainablePolicy
from agents.policies.sharding import local_part
from reason_envs.core import derive_seed

ROW_SCALE = 0.1
"""Relative standard deviation of the change to the rows of a tensor."""
ADAPTER_SCALE = 0.05
"""Standard deviation of what is added to the matrices of an adapter, of which some are zero at first."""


@contextmanager
def changed_weights(policy: TrainablePolicy) -> Iterator[None]:
    """Change all trained weights within a context, and restore them bit by bit."""
    before = {name: parameter.detach().clone() for name, parameter in policy.named_parameters()}
    try:
        with torch.no_grad():
            for name, parameter in policy.named_parameters():
                _change(name, local_part(parameter))
        yield
    finally:
        with torch.no_grad():
            for name, parameter in policy.named_parameters():
                parameter.copy_(before[name])


def _change(name: str, parameter: torch.Tensor) -> None:
    in_adapter = ".lora_" in name
    shape = parameter.shape if in_adapter else [*parameter.shape[:1], *[1] * (parameter.ndim - 1)]
    generator = torch.Generator(parameter.device).manual_seed(derive_seed(0, "canary", name))
    noise = torch.randn(shape, generator=generator, device=parameter.device).to(parameter.dtype)
    parameter += ADAPTER_SCALE * noise if in_adapter else ROW_SCALE * noise * parameter
