"""The worker extension in vLLM's processes: it receives weights and reports what it received."""

from __future__ import annotations

import os
import select
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file

from reason_envs.llm.lora_files import ADAPTER_WEIGHTS
from reason_envs.llm.weights import digest

WEIGHTS_FILE = "model.safetensors"
FULL = ""
"""Name of the full weights, besides the names of adapters."""


class WeightReceiver:
    """Extension of vLLM's worker class (``worker_extension_cls``). The engine calls its methods by name.

    A worker reads the file itself, passes exactly these tensors to its model, and stores their digest. The digest
    proves what this process loaded. vLLM fuses, splits and packs the weights afterwards, so its own parameters cannot
    be compared.
    """

    if TYPE_CHECKING:
        reload_weights: Any
        add_lora: Any

    def end_with(self, owner: int) -> None:
        """End this process and vLLM's core, which started it, when process ``owner`` ends, even if it is killed."""
        if os.getpid() == owner:
            return
        core = None if os.getppid() == owner else os.pidfd_open(os.getppid())
        ended = os.pidfd_open(owner)

        def wait() -> None:
            select.select([ended], [], [])
            if core is not None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(core, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=wait, daemon=True).start()

    def receive_weights(self, folder: str) -> None:
        """Replace the model's weights by those of a folder, and remove all adapters."""
        tensors = load_file(Path(folder) / WEIGHTS_FILE)
        self._received: dict[str, str] = {}
        received = digest(tensors)
        self.reload_weights(weights_iterator=iter(tensors.items()))
        self._received[FULL] = received

    def receive_adapter(self, name: str, unique_name: str, number: int, folder: str) -> None:
        """Load a LoRA adapter from a folder, under a name and a number that are new to vLLM."""
        from vllm.lora.request import LoRARequest

        received = digest(load_file(Path(folder) / ADAPTER_WEIGHTS))
        if not self.add_lora(LoRARequest(unique_name, number, folder)):
            raise RuntimeError(f"vLLM did not load the adapter {name!r} from {folder}.")
        self._received = {**self.__dict__.get("_received", {}), name: received}

    def received_digest(self, name: str) -> str | None:
        """Return the digest of the weights or the adapter loaded last under a name; ``None`` if there are none."""
        return self.__dict__.get("_received", {}).get(name)
