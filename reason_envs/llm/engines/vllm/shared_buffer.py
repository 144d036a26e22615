"""Memory through which this process hands full weights to vLLM's workers."""

import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

BUCKET_BYTES = 1 << 30
"""Maximum size of a buffer, unless one tensor is larger. Weights beyond it are sent in several parts."""
ALIGNMENT = 64
"""Tensors start at multiples of this number of bytes."""

Content = list[tuple[str, str, list[int]]]
"""Name, data type and shape of the tensors in a buffer, in order."""


@contextmanager
def buffer_file(weights: Mapping[str, Tensor]) -> Iterator[str]:
    """Create a file for these weights, which exists within the context, where processes map it into their memory."""
    sizes = [tensor.nbytes + ALIGNMENT for tensor in weights.values()]
    size = max(max(sizes), min(sum(sizes), BUCKET_BYTES))
    folder = "/dev/shm" if shutil.disk_usage("/dev/shm").free > size else None  # containers often limit it
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.truncate(size)
        yield file.name


class SharedBuffer:
    """The bytes of a file that several processes have mapped into memory."""

    def __init__(self, path: str) -> None:
        self._bytes = torch.from_file(path, shared=True, size=os.path.getsize(path), dtype=torch.uint8)

    def fill(self, weights: Mapping[str, Tensor]) -> Iterator[Content]:
        """Write as many weights as fit, yield what was written, and repeat until all weights were in the buffer."""
        content, end = Content(), 0
        for name, tensor in weights.items():
            if end + tensor.nbytes > len(self._bytes):
                yield content
                content, end = [], 0
            content.append((name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)))
            view, end = self._view(end, *content[-1][1:])
            view.copy_(tensor.detach())
        yield content

    def read(self, content: Content) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the tensors in the buffer. The next ones overwrite them."""
        end = 0
        for name, dtype, shape in content:
            view, end = self._view(end, dtype, shape)
            yield name, view

    def _view(self, start: int, dtype: str, shape: list[int]) -> tuple[Tensor, int]:
        """Return the tensor that starts at a byte, and the byte at which the next one starts."""
        kind = getattr(torch, dtype)
        end = start + math.prod(shape) * kind.itemsize
        return self._bytes[start:end].view(kind).view(shape), -(-end // ALIGNMENT) * ALIGNMENT
