"""The phases of a training step: how long each takes, and a helpful message when one runs out of memory."""

import faulthandler
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from agents.config.schema import TrainConfig, options
from agents.distributed import TIMEOUT, LostProcessError
from agents.policies.activations import is_out_of_memory
from reason_envs.errors import RunError

SIZES = (
    *("policy.model", "policy.max_tokens", "algo.micro_batch_tokens", "engine.model", "engine.max_batch_size"),
    *("reward_model.model", "reward_model.max_batch_tokens", "env.max_depth", "env.max_nodes"),
)
"""Options that decide how much memory a run needs; each part has some of them."""
GENERATING, UPDATING, SENDING = "generating", "updating", "sending weights to the engine"


@contextmanager
def explain_out_of_memory(phase: str, config: TrainConfig) -> Iterator[None]:
    """Turn PyTorch's out-of-memory errors into a `RunError` that names the phase, the sizes and the fix."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        on_gpu = isinstance(error, torch.OutOfMemoryError)
        groups = {name: options(getattr(config, name)) for name in ("policy", "algo", "engine", "reward_model", "env")}
        found = {key: groups[key.partition(".")[0]].get(key.partition(".")[2]) for key in SIZES}
        sizes = {key: value for key, value in found.items() if value is not None}
        given = ", ".join(f"{key}={value}" for key, value in sizes.items())
        fix = (
            "set policy.lora_rank=16, or use a smaller model"
            if "policy.max_tokens" in sizes
            else "set engine.load_in_8bit=true or reward_model.load_in_8bit=true, or use smaller models"
        )
        raise RunError(
            f"Out of {'GPU ' * on_gpu}memory while {phase} ({given}). Lower these sizes, {fix}. "
            f"PyTorch says: {str(error).splitlines()[0]}"
        ) from error


class StepClock:
    """Measures one training step; starts when it is made."""

    def __init__(self, config: TrainConfig, step: int) -> None:
        self._config = config
        self._step = step
        self._started = time.monotonic()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a phase, explain an out-of-memory error in it, and name it if another process is lost.

        A minute before others stop waiting, the stacks of all threads are written to standard error.
        """
        started = time.monotonic()
        faulthandler.dump_traceback_later(TIMEOUT.total_seconds() - 60, file=2)
        try:
            with explain_out_of_memory(name, self._config):
                yield
        except LostProcessError as error:
            raise LostProcessError(f"Step {self._step}, {name}: {error}") from error
        finally:
            faulthandler.cancel_dump_traceback_later()
        self._seconds[name] = time.monotonic() - started

    def metrics(self, tokens: int, seconds: float) -> dict[str, float]:
        """Return the seconds since the start and per phase, and the tokens that playing generated per second.

        Playing the episodes took ``seconds``, perhaps before this step.
        """
        return {
            "time/step": time.monotonic() - self._started,
            "time/generate": seconds,
            "time/update": self._seconds[UPDATING],
            "time/tokens_per_second": tokens / seconds,
        }
