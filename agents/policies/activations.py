"""Memory of training: the bytes that a forward pass keeps for its backward pass, and memory that runs out."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

CPU_ALLOCATOR = "DefaultCPUAllocator"
"""Part of PyTorch's message when the machine's memory runs out, which is a plain ``RuntimeError``."""


class SavedBytes(saved_tensors_hooks):
    """Counts the bytes that autograd saves while this context is open. A storage counts once.

    The memory of ``weights`` does not count, since it exists anyway.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._known = {tensor.untyped_storage()._cdata for tensor in weights}
        self.total = 0
        super().__init__(self._count, lambda tensor: tensor)

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            self.total += storage.nbytes()
        return tensor.detach()  # a result that keeps itself would never be freed


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error says that the memory of a GPU or of the machine has run out."""
    return isinstance(error, torch.OutOfMemoryError) or CPU_ALLOCATOR in str(error)
