"""SIGINT and SIGTERM as a request to save and stop; running out of memory as a message that helps."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from agents.config.schema import TrainConfig
from reason_envs.errors import ReasonEnvsError

CPU_ALLOCATOR = "DefaultCPUAllocator"
"""In the message of PyTorch's error when the machine's memory does not suffice: a plain ``RuntimeError``."""
SIZES = (
    *("policy.model", "policy.max_tokens", "algo.micro_batch_tokens", "engine.model", "engine.max_batch_size"),
    *("reward_model.model", "reward_model.max_batch_tokens", "env.max_depth", "env.max_nodes"),
)
"""Options that decide how much memory a run needs, where its parts have them."""


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
        ask = "saving after this step (again: stop at once, without what came after the last checkpoint)"
        os.write(2, f"\n{signal.Signals(number).name}: {ask}.\n".encode())


@contextmanager
def naming_phase(phase: str, config: TrainConfig) -> Iterator[None]:
    """Turn PyTorch's out-of-memory errors into one message with the phase, the sizes and what to lower."""
    try:
        yield
    except RuntimeError as error:
        on_gpu = isinstance(error, torch.OutOfMemoryError)
        if not on_gpu and CPU_ALLOCATOR not in str(error):
            raise
        sizes = {key: getattr(getattr(config, key.partition(".")[0]), key.partition(".")[2], None) for key in SIZES}
        given = ", ".join(f"{key}={value}" for key, value in sizes.items() if value is not None)
        text = sizes["policy.max_tokens"] is not None
        cures = (
            "set policy.gradient_checkpointing=true or policy.lora_rank=16, or use a smaller model"
            if text
            else ("set engine.load_in_8bit=true or reward_model.load_in_8bit=true, or use smaller models")
        )
        raise ReasonEnvsError(
            f"Out of {'GPU ' * on_gpu}memory while {phase} ({given}). Lower these, {cures}. "
            f"PyTorch says: {str(error).splitlines()[0]}"
        ) from error
