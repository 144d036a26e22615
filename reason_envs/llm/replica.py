"""An engine in another process: what a pool calls, and what the process runs."""

import asyncio
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from reason_envs.batching import gather
from reason_envs.errors import EngineError
from reason_envs.llm import make_engine
from reason_envs.llm.engine import Generation, GenerationRequest, TrainableEngine

FACTS = ("capabilities", "tokenizer", "context_length", "embedding_size", "model_name", "continuous")
"""Attributes of a pool that are those of its engine."""


def arrays(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return bytes, data type and shape of each tensor. Ray copies arrays of bytes once, and reads them in place."""
    flat = {name: tensor.detach().cpu().contiguous().view(-1).view(torch.uint8) for name, tensor in weights.items()}
    return {name: (flat[name].numpy(), tensor.dtype, tensor.shape) for name, tensor in weights.items()}


class LostReplicaError(EngineError):
    """A replica has died, or does not answer in time."""


class Replica(Protocol):
    """A process that holds a `ServedEngine`."""

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the `ServedEngine`.

        Raises:
            LostReplicaError: the process has died, or does not answer in time.
        """

    def close(self) -> None:
        """End the process."""


class ServedEngine:
    """An engine as its replica's process serves it. Arguments and results can be pickled."""

    async def open(self, spec: Any) -> dict[str, Any]:
        """Build the engine; return its attributes."""
        self._engine: Any = await asyncio.to_thread(make_engine, spec)  # vLLM would bind itself to this loop
        trained = {"dtype": self._engine.dtype} if isinstance(self._engine, TrainableEngine) else {}
        return {**{name: getattr(self._engine, name) for name in FACTS}, **trained}

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        """Answer requests together."""
        return await gather(*(self._engine.generate(request) for request in requests))

    async def load_weights(self, source: Mapping[str, Any], version: int, adapter: str | None) -> None:
        """Replace the full weights, or load an adapter from the contents of its files."""
        if not all(isinstance(content, bytes) for content in source.values()):
            with warnings.catch_warnings(action="ignore"):  # tensors share the memory of `arrays`, perhaps read-only
                tensors = {name: torch.from_numpy(a).view(kind).view(size) for name, (a, kind, size) in source.items()}
            self._engine.load_weights(tensors, version, adapter)
            return
        with tempfile.TemporaryDirectory() as folder:
            for name, content in source.items():
                Path(folder, name).write_bytes(content)
            self._engine.load_weights(Path(folder), version, adapter)

    async def score(self, *arguments: Any) -> list[float]:
        """Score tokens (see `TrainableEngine.score`)."""
        return await self._engine.score(*arguments)

    async def weights_digest(self, adapter: str | None) -> str | None:
        """Return the hash of the weights."""
        return self._engine.weights_digest(adapter)
