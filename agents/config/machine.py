"""The machine that the memory of a run is planned for."""

from dataclasses import dataclass
from pathlib import Path

from reason_envs.validation import above, at_least


@dataclass
class Machine:
    """Options of ``python -m agents.plan``, besides those of ``python -m agents.train``."""

    gpus: int = 0
    """Number of GPUs, each with a learner; 0: ``cluster.learner.gpus`` with ``cluster.address``, otherwise the run
    computes on the processor."""
    memory_gb: float | None = None
    """Memory of each GPU, or of the computer if there are none, in GiB; null: what is free on this machine."""
    roles: int = 2
    """Number of roles with separate weights, if ``policy.sharing`` separates them."""

    def __post_init__(self) -> None:
        at_least(self, gpus=0, roles=1)
        above(self, memory_gb=0)

    @property
    def gib(self) -> float:
        """Memory in GiB, measured if it was not given."""
        if self.memory_gb is None and self.gpus:
            import torch

            return torch.cuda.mem_get_info()[0] / 2**30
        free = Path("/proc/meminfo")
        return self.memory_gb or int(free.read_text().partition("MemAvailable:")[2].split()[0]) / 2**20
