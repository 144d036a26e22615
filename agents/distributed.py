"""Several processes, one run: each plays and differentiates a share, and all of them hold the same weights.

Started by ``accelerate launch`` or ``torchrun``, which set the usual environment variables. Every process builds the
whole run. Episodes and micro-batches are dealt out, results are gathered, gradients summed; so each step computes what
one process would, up to the order of additions. Only the first process writes files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from reason_envs.errors import ReasonEnvsError

T = TypeVar("T")


SHARDING = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}
"""What ``accelerate launch`` sets where it is told to split the model over processes."""


def start() -> None:
    """Join the other processes, if the environment names any (NCCL on GPUs, gloo elsewhere).

    Raises:
        ReasonEnvsError: the launcher was told to shard the model, which every process here holds whole.
    """
    for variable, name in SHARDING.items():
        if os.environ.get(variable, "false").lower() in ("true", "1"):
            raise ReasonEnvsError(
                f"accelerate is to shard the model with {name} ({variable}={os.environ[variable]}), but here every "
                "process holds the whole model. Start with `accelerate launch --multi_gpu --num_processes N` alone; "
                "policy.lora_rank=16, policy.gradient_checkpointing=true and policy.reference_device=cpu save memory."
            )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def stop() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share(items: Sequence[T], block: int = 1) -> list[T]:
    """Return this process's items: blocks of ``block`` neighbours are dealt out in turn."""
    return [item for i, item in enumerate(items) if i // block % size() == rank()]


def merge(mine: Sequence[T], total: int, block: int = 1) -> list[T]:
    """Undo ``share``: gather every process's results for its items, in the order of the ``total`` items."""
    if size() == 1:
        return list(mine)
    queues = [iter(part) for part in everyone(list(mine))]
    return [next(queues[i // block % size()]) for i in range(total)]


def everyone(value: T) -> list[T]:
    """Return every process's value (any picklable object), by rank."""
    if size() == 1:
        return [value]
    values: list[Any] = [None] * size()
    dist.all_gather_object(values, value)
    return values


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    return any(everyone(flag))


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add up the gradients of all processes, in place; one that computed nothing counts as 0."""
    if size() == 1:
        return
    parameters = list(parameters)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([p.grad.reshape(-1) for p in parameters if p.grad is not None])
    dist.all_reduce(flat)
    offset = 0
    for parameter in parameters:
        assert parameter.grad is not None
        parameter.grad.copy_(flat[offset : offset + parameter.numel()].view_as(parameter))
        offset += parameter.numel()
