"""Weights, gradients and optimizer states that are divided over the processes of a run by PyTorch's FSDP2.

A sharded tensor is a ``DTensor``: each process holds some of its rows. Every function here must be called by all
processes in the same order, because the processes exchange parts of tensors.
"""

import os
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from reason_envs.errors import ReasonEnvsError


def shard(scorer: Any, *, by_node: bool, offload: bool) -> None:
    """Shard a `Scorer`. Its forward pass gathers the weights of one decoder layer at a time.

    Layers compute in ``scorer.precision``; gradients are averaged over the processes in float32. Prompts are not
    shared, since all processes must run the same number of forward passes.

    Args:
        scorer: the module to shard, with its value head.
        by_node: whether each node holds all parts, instead of all processes together.
        offload: whether the parts wait in the computer's memory until they are needed.

    Raises:
        ReasonEnvsError: the model does not name its decoder layers.
    """
    scorer.share_prompts = False
    compute = None if scorer.precision == torch.float32 else scorer.precision
    precision = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32, cast_forward_inputs=False)
    waiting = CPUOffloadPolicy(pin_memory=scorer.device.type == "cuda") if offload else OffloadPolicy()
    # The weights must be gathered again after every optimizer step, also those outside the layers.
    how: dict[str, Any] = {"mesh": _mesh(scorer.device.type, by_node), "reshard_after_forward": True}
    for layer in _decoder_layers(scorer.model):
        fully_shard(layer, mp_policy=precision, offload_policy=waiting, **how)
    if scorer.value_head is not None:
        fully_shard(scorer.value_head, offload_policy=waiting, **how)  # it computes in float32
    fully_shard(scorer, mp_policy=precision, offload_policy=waiting, **how)


def _decoder_layers(model: Any) -> list[nn.Module]:
    """Return the layers that a model of transformers names, inner ones first."""
    names = model._no_split_modules or ()
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise ReasonEnvsError(
            f"{type(model).__name__} does not name its decoder layers (_no_split_modules), so it cannot be sharded: "
            "set cluster.learner.shard=none, or train another model."
        )
    return layers[::-1]


def _mesh(device_type: str, by_node: bool) -> DeviceMesh:
    processes = dist.get_world_size()
    if not by_node:
        return init_device_mesh(device_type, (processes,))
    on_node = int(os.environ["LOCAL_WORLD_SIZE"])
    return init_device_mesh(device_type, (processes // on_node, on_node), mesh_dim_names=("nodes", "processes"))


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor; return other tensors as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def full_tensors(tensors: Mapping[str, Tensor], *, keep: bool = True) -> dict[str, Tensor]:
    """Gather sharded tensors one at a time, to the CPU; other tensors are returned as they are.

    A tensor with two names is gathered once. ``keep``: whether this process needs them; otherwise none is returned.
    """
    gathered: dict[int, Tensor] = {}
    for tensor in tensors.values():
        if id(tensor) not in gathered:
            whole = full_tensor(tensor.detach())
            gathered[id(tensor)] = (whole.cpu() if isinstance(tensor, DTensor) else whole) if keep else tensor
    return {name: gathered[id(tensor)] for name, tensor in tensors.items()} if keep else {}


def sharded_like(tensor: Tensor, own: Tensor) -> Tensor:
    """Shard a whole tensor as another one is sharded, without communication."""
    if not isinstance(own, DTensor):
        return tensor
    return distribute_tensor(tensor.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
