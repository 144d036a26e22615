"""Options of ``cluster``, and the machine that the memory of a run is planned for."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from agents.policies.language_config import ShardingConfig
from reason_envs.errors import OptionError
from reason_envs.validation import Checked, limited

ADDRESSES = ("local", "auto")
"""Addresses of Ray besides ``HOST:PORT`` and ``ray://HOST:PORT``."""


@dataclass
class EnginePlacement(Checked):
    """Replicas of a run's engines."""

    replicas: int = limited(1, at_least=1)
    """Number of replicas of each engine. A request goes to the one with the fewest running tokens."""
    gpus: float | None = limited(None, at_least=0)
    """GPUs per replica, such as 0.5; null: ``engine.tensor_parallel_size`` or 1, and none on a cluster without GPUs."""


@dataclass
class LearnerPlacement(ShardingConfig):
    """Learners of a run, and their division of the model."""

    gpus: int = limited(1, at_least=1)
    """Number of learners that Ray starts, each with one GPU, or one CPU on a cluster without GPUs. The run's process is
    the first one. 1: none is started; ``torchrun`` may have started several."""


@dataclass
class ClusterConfig(Checked):
    """Division of a run over processes and GPUs."""

    address: str | None = None
    """Ray, which places the engines: ``local`` (started for this run), ``auto`` (a cluster that this computer belongs
    to), ``HOST:PORT`` or ``ray://HOST:PORT``. Null: engines run in the learner's process, without Ray."""
    timeout_s: float = limited(1800.0, above=0)
    """Maximum time in seconds that a replica may take to start, to answer requests, or to load weights. A replica that
    takes longer is replaced."""
    engine: EnginePlacement = field(default_factory=EnginePlacement)
    """Replicas of the engines that Ray places."""
    learner: LearnerPlacement = field(default_factory=LearnerPlacement)
    """Learners, and their division of the model."""

    workers: int = limited(0, at_least=0)
    """Number of programs that each sandbox of the environment runs at the same time, in processes that Ray spreads over
    the computers. 0: programs run on the learner's computer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.address not in (None, *ADDRESSES) and not re.search(r":\d+$", str(self.address)):
            raise OptionError("address", self.address, f"must be {', '.join(ADDRESSES)}, HOST:PORT or ray://HOST:PORT.")
        if self.address is None and self.engine != EnginePlacement():
            raise OptionError("engine", self.engine, "needs cluster.address, such as local.")
        if self.address is None and self.workers:
            raise OptionError("workers", self.workers, "needs cluster.address, such as local.")
        if self.learner.gpus > 1 and (self.address is None or self.address.startswith("ray://")):
            raise OptionError("learner.gpus", self.learner.gpus, "needs cluster.address, such as local or auto.")


@dataclass
class Machine(Checked):
    """Options of ``python -m agents.plan``, besides those of ``python -m agents.train``."""

    gpus: int = limited(0, at_least=0)
    """Number of GPUs, each with a learner; 0: ``cluster.learner.gpus`` with ``cluster.address``, otherwise the run
    computes on the processor."""
    memory_gb: float | None = limited(None, above=0)
    """Memory of each GPU, or of the computer if there are none, in GiB; null: what is free on this machine."""
    roles: int = limited(2, at_least=1)
    """Number of roles with separate weights, if ``policy.sharing`` separates them."""

    @property
    def gib(self) -> float:
        """Memory in GiB, measured if it was not given."""
        if self.memory_gb is None and self.gpus:
            import torch

            return torch.cuda.mem_get_info()[0] / 2**30
        free = Path("/proc/meminfo")
        return self.memory_gb or int(free.read_text().partition("MemAvailable:")[2].split()[0]) / 2**20
