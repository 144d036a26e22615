"""What vLLM's workers import: the receiver of full weights, and the extension that reports what arrived."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file
from torch import Tensor
from vllm.distributed.weight_transfer.base import WeightTransferEngine
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.lora.request import LoRARequest
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from reason_envs.llm.engines.vllm.options import OWNER, TRANSFER
from reason_envs.llm.engines.vllm.shared_buffer import Content, SharedBuffer
from reason_envs.llm.lora_files import ADAPTER_WEIGHTS
from reason_envs.llm.weights import combined, digest, fingerprint


class BufferTransfer(WeightTransferEngine):
    """Reads weights from the shared buffer, passes exactly these to the model, and hashes them on its device.

    The hash proves what this worker loaded. vLLM fuses, splits and packs the weights afterwards, so its own parameters
    cannot be compared.
    """

    init_info_cls = update_info_cls = dict
    is_complete = True
    """Whether no update has started without being finished."""

    def init_transfer_engine(self, init_info: dict[str, str]) -> None:
        """Map the buffer's file, ``path``, into memory."""
        self._buffer = SharedBuffer(init_info["path"])

    def start_weight_update(self) -> None:
        """Prepare the model for new weights."""
        self.received: dict[str, str] = {}
        self.is_complete = False
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: dict[str, Content]) -> None:
        """Load the ``tensors`` in the buffer. Their names are those of the ``state_dict()`` in transformers."""
        self.model.load_weights(self._read(update_info["tensors"]))

    def _read(self, content: Content) -> Iterator[tuple[str, Tensor]]:
        for name, shared in self._buffer.read(content):
            tensor = shared.to(self.device, copy=True)  # the model keeps tensors until a layer is complete
            self.received[name] = fingerprint(name, tensor)
            yield name, tensor

    def finish_weight_update(self) -> None:
        """Process the layers that wait for all weights."""
        finalize_layerwise_reload(self.model, self.model_config)
        self.is_complete = True

    def shutdown(self) -> None:
        """Do nothing: the buffer goes with the process."""


def end_with(owner: int) -> None:
    """End this process and vLLM's core, which started it, when process ``owner`` ends, even if it is killed."""
    if os.getpid() == owner:
        return
    core = None if os.getppid() == owner else os.pidfd_open(os.getppid())

    def wait() -> None:
        with suppress(ProcessLookupError):  # it has ended already
            select.select([os.pidfd_open(owner)], [], [])
        if core is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(core, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


end_with(int(os.environ[OWNER]))  # before the model is loaded, since a run may be killed while vLLM starts
WeightTransferEngineFactory.register_engine(TRANSFER, BufferTransfer)


class WeightReceiver:
    """Extension of vLLM's worker class (``worker_extension_cls``). The engine calls its methods by name."""

    if TYPE_CHECKING:
        add_lora: Any
        weight_transfer_engine: BufferTransfer
        _weight_update_active: bool

    def end_unfinished_update(self) -> None:
        """End an update that failed half-way: the next one would be refused, or count the tensors that have arrived."""
        if not self.weight_transfer_engine.is_complete:
            self.weight_transfer_engine.finish_weight_update()
            self._weight_update_active = False

    def receive_adapter(self, name: str, unique_name: str, number: int, folder: str) -> None:
        """Load a LoRA adapter from a folder, under a name and a number that are new to vLLM."""
        received = digest(load_file(Path(folder) / ADAPTER_WEIGHTS))
        if not self.add_lora(LoRARequest(unique_name, number, folder)):
            raise RuntimeError(f"vLLM did not load the adapter {name!r} from {folder}.")
        self._received_adapters = {**self.__dict__.get("_received_adapters", {}), name: received}

    def received_digest(self, adapter: str) -> str:
        """Return the digest of the adapter loaded last under a name, or of the full weights if the name is empty."""
        return self._received_adapters[adapter] if adapter else combined(self.weight_transfer_engine.received)
