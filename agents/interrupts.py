"""SIGINT and SIGTERM as a request to save and stop; CUDA's out-of-memory error as a message that helps."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from agents.config import TrainConfig
from reason_envs.errors import ReasonEnvsError


class StopRequest:
    """A context within which the first signal is remembered and a second one ends the process at once."""

    number: int | None = None
    """The signal that came."""

    def __enter__(self) -> StopRequest:
        """Take over SIGINT and SIGTERM."""
        self._previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
        for number in self._previous:
            signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.number = number
        signal.signal(number, signal.SIG_DFL)
        # Not through the tracker: it may be in the middle of printing.
        os.write(2, f"\n{signal.Signals(number).name}: saving after this step (again: stop at once).\n".encode())


@contextmanager
def naming_phase(phase: str, config: TrainConfig) -> Iterator[None]:
    """Turn CUDA's out-of-memory error into one message with the phase, the sizes and what to lower."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ReasonEnvsError(
            f"Out of GPU memory while {phase} (policy.model={config.policy.model}, policy.max_tokens="
            f"{config.policy.max_tokens}, algo.micro_batch_tokens={getattr(config.algo, 'micro_batch_tokens', None)}, "
            f"engine.max_batch_size={getattr(config.engine, 'max_batch_size', None)}). Lower these, set "
            "policy.gradient_checkpointing=true or policy.lora_rank=16, or use a smaller model. "
            f"PyTorch says: {str(error).splitlines()[0]}"
        ) from error
