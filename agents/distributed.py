"""Data-parallel training: several processes play and differentiate shards, and all of them hold the same weights.

Ray, ``torchrun`` or ``accelerate launch`` starts the processes and sets the environment variables. Every process builds
the whole run. Episodes and micro-batches are sharded, results are gathered, and gradients are summed, so that a step
equals that of one process up to the order of additions. Only the process of rank 0 writes files.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from reason_envs.errors import RunError, first_line

T = TypeVar("T")


SHARDED_MODELS = tuple(f"ACCELERATE_USE_{name}" for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"))
"""Environment variables that ``accelerate launch`` sets if it is configured to split the model over processes."""
TIMEOUT = timedelta(minutes=30)
"""Maximum time that a process waits for the others. Episodes of very different lengths are within it."""


class LostProcessError(RunError):
    """Another process of the run has ended, or does not answer in time."""


def start() -> None:
    """Connect to the other processes, if the environment names any (NCCL for tensors on GPUs, gloo for the rest).

    Raises:
        RunError: the launcher is configured to split the model over processes.
    """
    for variable in SHARDED_MODELS:
        if os.environ.get(variable, "false").lower() in ("true", "1"):
            raise RunError(
                f"accelerate is configured to split the model ({variable}={os.environ[variable]}), but a run splits "
                "its model itself: start with `torchrun --nproc_per_node N`, and set cluster.learner.shard=full."
            )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)


def stop() -> None:
    """Disconnect from the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def shard(items: Sequence[T], block: int = 1) -> list[T]:
    """Return the items of this process. Blocks of ``block`` neighbours go to the processes in turn."""
    return [item for i, item in enumerate(items) if i // block % size() == rank()]


def unshard(mine: Sequence[T], total: int, block: int = 1) -> list[T]:
    """Gather one result per item of ``shard`` from every process, in the order of the ``total`` items."""
    queues = [iter(part) for part in all_gather(list(mine))]
    return [next(queues[i // block % size()]) for i in range(total)]


def all_gather(value: T) -> list[T]:
    """Return the value of every process, by rank; it may be any object that can be pickled."""
    if size() == 1:
        return [value]
    values: list[Any] = [None] * size()
    with _waiting():
        dist.all_gather_object(values, value)
    return values


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Sum the gradients of parameters that are not sharded over all processes; a missing gradient counts as 0."""
    parameters = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    if size() == 1 or not parameters:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([p.grad.reshape(-1) for p in parameters if p.grad is not None])
    with _waiting():
        dist.all_reduce(flat)
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        assert parameter.grad is not None
        parameter.grad.copy_(part.view_as(parameter))


@contextmanager
def _waiting() -> Iterator[None]:
    """Explain that another process is missing.

    Raises:
        LostProcessError: the operation failed.
    """
    try:
        yield
    except RuntimeError as error:
        raise LostProcessError(
            f"The process of rank {rank()} waited for the other {size() - 1}, of which at least one has ended or does "
            f"not answer ({first_line(error)}). Look at the errors and stacks of the others, then resume the run."
        ) from error
