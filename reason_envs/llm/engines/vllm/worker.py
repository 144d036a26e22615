"""What vLLM's worker processes run for us: taking weights, and saying which ones they took."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file

from reason_envs.llm.lora_files import ADAPTER_WEIGHTS
from reason_envs.llm.weights import digest

WEIGHTS_FILE = "model.safetensors"
FULL = ""
"""The name of the full weights, beside the names of adapters."""


class WeightReceiver:
    """Mixed into vLLM's worker class (``worker_extension_cls``); the engine calls its methods by name.

    A worker reads the file itself, hands exactly those tensors to its model and remembers their digest: it proves what
    this process loaded. vLLM fuses, cuts and packs them afterwards, so the parameters themselves cannot be compared.
    """

    if TYPE_CHECKING:
        reload_weights: Any
        add_lora: Any

    def receive_weights(self, folder: str) -> None:
        """Replace the model's weights by a folder's; adapters are dropped."""
        tensors = load_file(Path(folder) / WEIGHTS_FILE)
        self._received: dict[str, str] = {}
        received = digest(tensors)
        self.reload_weights(weights_iterator=iter(tensors.items()))
        self._received[FULL] = received

    def receive_adapter(self, name: str, unique_name: str, number: int, folder: str) -> None:
        """Load a LoRA adapter from a folder, under a name and number that vLLM has not seen before."""
        from vllm.lora.request import LoRARequest

        received = digest(load_file(Path(folder) / ADAPTER_WEIGHTS))
        if not self.add_lora(LoRARequest(unique_name, number, folder)):
            raise RuntimeError(f"vLLM did not load the adapter {name!r} from {folder}.")
        self._received = {**self.__dict__.get("_received", {}), name: received}

    def received_digest(self, name: str) -> str | None:
        """Hash the weights or the adapter last loaded under a name; ``None`` before any were."""
        return self.__dict__.get("_received", {}).get(name)
